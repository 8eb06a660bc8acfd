"""The conformance programs of each engine: what a user would write in that language for each case of the suite."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.conformance.run_command import cells


def _notebook(*sources: str) -> str:
    body = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": list(cells(*sources))}
    return json.dumps(body, ensure_ascii=False)


@dataclass(frozen=True)
class Language:
    """Programs by case. `quoted`: what the reason of the runtime error must quote. status3: None where the language
    cannot end with a status. parameters: prints `alpha` with <> around it, alone on its lines. part: for `require`."""

    toolchain: str
    engine: str
    suffix: str
    part: str
    syntax: str
    runtime: str
    quoted: tuple[str, ...]
    status3: str | None
    warning: str
    progress: str
    sleep: str
    unicode: str
    parameters: str
    writes: str
    no_such: str = ""


PYTHON = Language(
    toolchain="python",
    engine="python",
    suffix=".py",
    part="",
    syntax="print('before')\nx = = 3\n",
    runtime="def f(x):\n    return 1 / x\nprint('before')\nf(0)\nprint('after')\n",
    quoted=("ZeroDivisionError: division by zero", "line 2: return 1 / x"),
    status3="import sys\nprint('x')\nsys.exit(3)\n",
    warning="import warnings\nwarnings.warn('careful')\nprint('done')\n",
    progress="import time\nfor i in range(3):\n    print(i)\n    time.sleep(0.3)\n",
    sleep="import time\nprint('go')\ntime.sleep(60)\n",
    unicode="print('Åsa, Ωmega, 日本')\n",
    parameters="import sys\na = sys.argv\nprint('<' + a[a.index('--alpha') + 1] + '>')\n",
    writes="open('out.txt', 'w').write('written')\n",
)
R = Language(
    toolchain="r",
    engine="r",
    suffix=".R",
    part="r",
    syntax="x <- 1\nfoo bar\n",
    runtime="f <- function(x) stop('boom ', x)\ncat('before\\n')\nf(3)\ncat('after\\n')\n",
    quoted=("Error in f(3) : boom 3",),
    status3="quit(status = 3)\n",
    warning="warning('careful')\ncat('done\\n')\n",
    progress="for (i in 0:2) { cat(i, '\\n', sep = ''); Sys.sleep(0.3) }\n",
    sleep="cat('go\\n')\nSys.sleep(60)\n",
    unicode="cat('Åsa, Ωmega, 日本\\n')\n",
    parameters="a <- commandArgs(TRUE)\ncat('<', a[match('--alpha', a) + 1], '>\\n', sep = '')\n",
    writes="cat('written', file = 'out.txt')\n",
)
OCTAVE = Language(
    toolchain="matlab",
    engine="octave",
    suffix=".m",
    part="matlab",
    syntax="disp('before')\ny = 1 +;\n",
    runtime="1;\nfunction f(x)\n  error('boom %d', x)\nend\ndisp('before')\nf(3)\ndisp('after')\n",
    quoted=("boom 3", "line 6"),
    status3="exit(3)\n",
    warning="warning('careful')\ndisp('done')\n",
    progress="for i = 0:2\n  printf('%d\\n', i); pause(0.3);\nend\n",
    sleep="disp('go')\npause(60)\n",
    unicode="disp('Åsa, Ωmega, 日本')\n",
    parameters="a = argv();\ni = find(strcmp(a, '--alpha'), 1);\nprintf('<%s>\\n', a{i + 1});\n",
    writes="f = fopen('out.txt', 'w'); fputs(f, 'written'); fclose(f);\n",
)
PSPP = Language(
    toolchain="spss",
    engine="pspp",
    suffix=".sps",
    part="spss",
    syntax="ECHO 'before'.\nNONSENSE x.\nECHO 'after'.\n",
    runtime="DATA LIST LIST /x.\nBEGIN DATA\n1\nEND DATA.\nECHO 'before'.\nCOMPUTE y = nosuch + 1.\n"
    "SAVE OUTFILE='bad.sav'.\nECHO 'after'.\n",
    quoted=("Unknown identifier nosuch", "line 6"),
    status3=None,
    warning="DATA LIST /x 1.\nBEGIN DATA\n1\nz\nEND DATA.\nLIST.\nECHO 'done'.\n",
    progress="ECHO '0'.\nHOST COMMAND=['sleep 0.4'].\nECHO '1'.\nHOST COMMAND=['sleep 0.4'].\nECHO '2'.\n",
    sleep="ECHO 'go'.\nHOST COMMAND=['sleep 60'].\n",
    unicode="ECHO 'Åsa, Ωmega, 日本'.\n",
    parameters="DATA LIST LIST /x.\nBEGIN DATA\n1\nEND DATA.\nSTRING s (A4000).\n"
    "COMPUTE s = CONCAT('<', !alpha, '>').\nWRITE OUTFILE='said.txt' /s.\nEXECUTE.\n",
    writes="DATA LIST LIST /x.\nBEGIN DATA\n1\nEND DATA.\nWRITE OUTFILE='out.txt' /'written'.\nEXECUTE.\n",
)
SHELL = Language(
    toolchain="shell",
    engine="sh",
    suffix=".sh",
    part="",
    syntax="echo before\nif then\n",
    runtime="set -e\necho before\nls /no/such/file\necho after\n",
    quoted=("exited with status 2", "/no/such/file"),
    status3="exit 3\n",
    warning="echo careful >&2\necho done\n",
    progress="for i in 0 1 2; do echo $i; sleep 0.3; done\n",
    sleep="echo go\nexec sleep 60\n",
    unicode="echo 'Åsa, Ωmega, 日本'\n",
    parameters="printf '<%s>\\n' \"$2\"\n",
    writes="printf written > out.txt\n",
)
SASLITE = Language(
    toolchain="sas",
    engine="saslite",
    suffix=".sas",
    part="saslite",
    syntax="data a; x = ; run;\n",
    runtime="data a; x=1; run;\n%put before;\ndata b; set nosuch; run;\n%put after;\ndata c; x=1; run;\n",
    quoted=("WORK.NOSUCH does not exist", "line 2"),
    status3=None,
    warning="data a; x=log(-1); run;\n%put done;\n",
    progress="%put 0;\ndata a; x=1; run;\n%put 1;\n",
    sleep="",
    unicode="%put Åsa, Ωmega, 日本;\n",
    parameters="%put <&alpha>;\n",
    writes='data a; x="written"; run;\nproc export data=a outfile="out.txt" dbms=csv; run;\n',
)
NOTEBOOK = Language(
    toolchain="notebook",
    engine="python",
    suffix=".ipynb",
    part="",
    syntax=_notebook("print('before')\nx = = 3\n"),
    runtime=_notebook("print('before')", "def f(x):\n    return 1 / x\nf(0)", "print('after')"),
    quoted=("ZeroDivisionError: division by zero", "cell 2"),
    status3=_notebook("import sys\nsys.exit(3)"),
    warning=_notebook("import warnings\nwarnings.warn('careful')\nprint('done')"),
    progress=_notebook("import time\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.5)\n"),
    sleep=_notebook("import time\nprint('go')\ntime.sleep(60)\n"),
    unicode=_notebook("print('Åsa, Ωmega, 日本')\n"),
    parameters=_notebook("print('<' + str(alpha) + '>')"),
    writes=_notebook("_ = open('out.txt', 'w').write('written')"),
)
LANGUAGES = {
    "python": PYTHON,
    "r": R,
    "octave": OCTAVE,
    "pspp": PSPP,
    "sh": SHELL,
    "saslite": SASLITE,
    "notebook": NOTEBOOK,
}
