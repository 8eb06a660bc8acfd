"""Logs of work that got no licence seat, from the makers' documents and their users' reports; none was made here."""

from __future__ import annotations

import pytest

from groundplane.model.reasons import Fault
from groundplane.spi.toolchain import Ending
from groundplane.toolchains import registry

FULL = """License checkout failed.
License Manager Error -4
Maximum number of users for MATLAB reached.
Try again later.
To see a list of current users use the lmstat utility or contact your License Administrator.

Troubleshoot this issue by visiting:
https://www.mathworks.com/support/lme/4

Diagnostic Information:
Feature: MATLAB
License path: 27000@licences:/opt/matlab/licenses
Licensing error: -4,132.
"""
TOOLBOX = """Error using normpdf
License checkout failed.
License Manager Error -5
Cannot find a license for Statistics_Toolbox.

Error in fit (line 3)
p = normpdf(x);
"""
SAS = """1          proc reg data=a; run;
ERROR: The SAS/STAT product with which the procedure is associated is either not licensed for your system or the
       product license has expired. Please contact your SAS installation representative.
NOTE: The SAS System stopped processing this step because of errors.
"""
SETINIT = """ERROR: The SAS System is executing on a processor (CPU) whose model name, model
       number, and serial number are not included in the setinit data used to
       initialize the SAS System library in use.
"""
STATISTICSB = "/opt/IBM/bin/statisticsb"


@pytest.mark.parametrize(
    ("toolchain", "ending", "message"),
    [
        ("matlab", Ending(1, stderr=FULL), "licensing error -4,132."),
        ("matlab", Ending(1, stdout=FULL.partition("\nDiag")[0]), "MATLAB reached. (License Manager Error -4)"),
        (
            "matlab",
            Ending(1, stderr=TOOLBOX),
            "Cannot find a license for Statistics_Toolbox. (License Manager Error -5)",
        ),
        ("matlab", Ending(1, stderr="FLEXnet Licensing error:-15,570\n"), "licensing error -15,570"),
        ("sas", Ending(2, stderr=SAS), "either not licensed for your system or the product license has expired."),
        ("sas", Ending(6, stderr=SETINIT), "serial number are not included in the setinit data"),
        (
            "spss",
            Ending(1, stdout=">Error # 7001\n>There is no license for IBM SPSS Regression.\n", engine=STATISTICSB),
            "There is no license for IBM SPSS Regression.",
        ),
        (
            "spss",
            Ending(0, stdout="Sentinel RMS: all licenses are currently in use\n", engine=STATISTICSB),
            "all licenses are currently in use",
        ),
    ],
)
def test_a_refused_seat_is_not_the_scripts_fault(toolchain: str, ending: Ending, message: str) -> None:
    reason = registry.get(toolchain).diagnose(ending, "fit")
    assert reason is not None
    assert (reason.code, reason.fault) == ("no_licence_seat", Fault.BACKEND)
    assert message in reason.message
    assert f"ground licences set {toolchain} --seats N" in reason.hint
    assert len(reason.message) <= 500


@pytest.mark.parametrize(
    ("toolchain", "ending"),
    [
        ("matlab", Ending(1, stderr=TOOLBOX + "Error using load\nUnable to find file.\n\nError in fit (line 9)\n")),
        ("matlab", Ending(1, stderr="error: 'license' undefined\n")),
        ("sas", Ending(2, stderr="ERROR: File WORK.A.DATA does not exist.\n" + SAS)),
        (
            "sas",
            Ending(2, stderr="WARNING: Your system is scheduled to expire on May 21.\nERROR: File X does not exist.\n"),
        ),
        ("spss", Ending(1, report="a.sps:1: error: There is no license for it.\n", engine="/usr/bin/pspp")),
    ],
)
def test_another_error_is(toolchain: str, ending: Ending) -> None:
    reason = registry.get(toolchain).diagnose(ending, "fit")
    assert reason is not None
    assert (reason.code, reason.fault) == ("error", Fault.USER)


@pytest.mark.parametrize(
    ("toolchain", "ending"),
    [
        ("matlab", Ending(0, stdout=FULL, stderr=FULL)),
        ("sas", Ending(1, stderr=SAS)),
        ("spss", Ending(0, sentinel=True, stdout="There is no license for it\n", engine=STATISTICSB)),
    ],
)
def test_work_that_went_on_without_has_succeeded(toolchain: str, ending: Ending) -> None:
    assert registry.get(toolchain).diagnose(ending, "fit") is None
