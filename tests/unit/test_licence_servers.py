"""What lmstat prints, from answers as FlexLM's documents and its users' reports show them. No real server was met."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import pytest

from groundplane.services import licence_servers
from groundplane.services.licence_servers import Answer, Seat, ask, parse

HEAD = """lmutil - Copyright (c) 1989-2024 Flexera. All Rights Reserved.
Flexible License Manager status on Mon 11/23/2026 13:34

License server status: 27000@licences
    License file(s) on licences: /opt/licences/license.lic:

licences: license server UP (MASTER) v11.19.6

Vendor daemon status (on licences):

       MLM: UP v11.19.6
Feature usage info:

Users of SIMULINK:  (Total of 2 licenses issued;  Total of 1 license in use)

    carol desk7 desk7:0.0 (v54) (licences/27000 4021), start Mon 11/23 8:02

"""
MATLAB = """Users of MATLAB:  (Total of 5 licenses issued;  Total of 4 licenses in use)

  "MATLAB" v54, vendor: MLM, expiry: 30-oct-2026
  vendor_string: vi=0:at=200:ei=1:lr=1
  floating license

    ann node1.example.org /dev/pts/0 (v50) (licences/27000 16636), start Sun 11/22 23:35, PID: 3278807
    ann node2 node2:0 (v50) (licences/27000 40623), start Mon 11/23 10:20, 2 licenses
    bob odd host name (v50) (licences/27000 17527), start Mon 11/23 10:58

Users of MATLAB_Distrib_Comp_Engine:  (Total of 16 licenses issued;  Total of 0 licenses in use)

"""


def test_the_count_of_one_feature_with_who_has_its_seats() -> None:
    found = parse(HEAD + MATLAB, "matlab")
    assert (found.issued, found.used, found.error) == (5, 4, "")
    assert found.seats == (
        Seat("ann", "node1.example.org", "Sun 11/22 23:35", 1),
        Seat("ann", "node2", "Mon 11/23 10:20", 2),
        Seat("bob", "odd", "Mon 11/23 10:58", 1),
    )
    assert parse(HEAD + MATLAB, "simulink") == Answer(2, 1, (Seat("carol", "desk7", "Mon 11/23 8:02", 1),))


@pytest.mark.parametrize(
    ("line", "issued", "used"),
    [
        ("Users of MATLAB:  (Total of 1 license issued;  Total of 1 license in use)", 1, 1),
        ("Users of MATLAB:  (Total of 50 licenses issued;  12 licenses in use)", 50, 12),
        ("Users of MATLAB:  (Uncounted, node-locked)", None, 0),
        ("Users of Matlab: (Total of 3 licenses issued; Total of 0 licenses in use)", 3, 0),
    ],
)
def test_the_forms_of_a_count(line: str, issued: int | None, used: int) -> None:
    found = parse(HEAD + line + "\n", "matlab")
    assert (found.issued, found.used, found.error) == (issued, used, "")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "Error getting status: Cannot connect to license server system. (-15,570:115)\n",
            "Cannot connect to license server system. (-15,570:115",
        ),
        ("lmgrd is not running: Cannot connect to license server system.\n", "lmgrd is not running"),
        ("Vendor daemon status (on licences):\n\n  MLM: The desired vendor daemon is down. (-97,121)\n", "(-97,121)"),
        (HEAD, "it has no feature MATLAB"),
        (
            HEAD + "Users of MATLAB:  (Error: 5 licenses, unsupported by licensed server)\n",
            "of MATLAB it says: Error: 5 licenses, unsupported by licensed server",
        ),
        ("sh: something else\n", "is not understood: sh: something else"),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_what_is_no_count_says_why(text: str, error: str) -> None:
    found = parse(text, "matlab")
    assert error in found.error
    assert (found.issued, found.seats, found.others(0)) == (None, (), 0)


def test_ours_are_those_of_this_user_on_this_host_or_in_a_container_and_no_more_than_we_have() -> None:
    me, here = getpass.getuser(), socket.gethostname()
    mine = (Seat(me, here, ""), Seat(me.upper(), f"{here}.example.org", ""), Seat(me, "0123456789ab", ""))
    foreign = (Seat(me, "elsewhere", ""), Seat("somebody", here, ""))
    answer = Answer(9, 5, (*mine, *foreign))
    assert [answer.others(ours) for ours in (0, 1, 2, 3, 4)] == [5, 4, 3, 2, 2]
    assert Answer(9, 1, mine).others(3) == 0, "seats of one user and host may be counted as one"


def lmutil(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program of that name which is not FlexLM's."""
    program = folder / "lmutil"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("LMUTIL", raising=False)


def test_it_is_asked_by_the_program_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lmutil(
        tmp_path, monkeypatch, 'echo "Users of X:  (Total of $# licenses issued;  Total of 0 licenses in use)"; exit 3'
    )
    assert ask("27000@licences", "x").issued == 4


def test_what_keeps_it_from_being_asked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lmutil(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(licence_servers, "_PATIENCE", 0.2)
    assert "27000@licences did not answer" in ask("27000@licences", "x").error
    monkeypatch.setenv("LMUTIL", str(tmp_path / "nowhere"))
    assert "cannot be started" in ask("27000@licences", "x").error
    monkeypatch.delenv("LMUTIL")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "lmutil is not on the control plane's PATH" in ask("27000@licences", "x").error
