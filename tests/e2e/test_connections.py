"""Connections against a real PostgreSQL: from Python, R, psql's own service and PSPP, with passwords of all kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow.parquet
import pytest

from tests.e2e.cli_ground import Ground, until
from tests.parts import require
from tests.postgres import Postgres

PASSWORDS = {
    "plain": "correct-horse-battery",
    "odbc": "a%41+b;c}d{e f=g",
    "quotes": """it's "quoted" \\ and:colon""",
    "letters": "pass wörd Ångström %2B #;",
}
VISITS = """
    CREATE TABLE visits (id int PRIMARY KEY, name text, score numeric(8, 2), ratio double precision, seen date,
        at timestamptz, ok boolean, big bigint, key uuid, tags text[]);
    INSERT INTO visits VALUES
        (1, 'Åsa', 12.50, 0.25, '2024-02-29', '2024-02-29 12:00:00+02', true, 9007199254740992,
            '6f1c1d3e-0000-4000-8000-000000000001', '{a,b}'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, 'x', -1.05, 1e300, '1999-12-31', '1999-12-31 23:59:59.5+00', false, -1,
            '6f1c1d3e-0000-4000-8000-000000000003', '{}');
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    require("postgres")
    from tests.postgres import server

    with server(tcp=True) as running:
        running.run("postgres", "CREATE DATABASE warehouse")
        running.run("warehouse", *VISITS.strip().removesuffix(";").split(";\n"))
        for name, password in PASSWORDS.items():
            running.user(name, password)
            running.run("warehouse", f"GRANT SELECT ON visits TO {name}")
        yield running


def url(database: Postgres, user: str) -> str:
    return f"postgresql://{user}@127.0.0.1:{database.port}/warehouse"


def connect(ground: Ground, database: Postgres, user: str = "plain") -> None:
    """The connection `warehouse`, as that user."""
    ground.put_secret(f"{user}-password", PASSWORDS[user])
    ground("connections", "add", "warehouse", url(database, user), "--password-secret", f"{user}-password")


def project(ground: Ground, *steps: str) -> None:
    ground.write("ground.toml", '[project]\nname = "trial"\n' + "\n".join(steps))


def step(name: str, run: str, more: str) -> str:
    return f'[pipelines.p.steps.{name}]\nrun = "{run}"\n{more}\n'


PYTHON = """
import os, psycopg
for where in (os.environ["GROUND_CONNECTION_WAREHOUSE_URL"], "service=warehouse"):
    with psycopg.connect(where) as connection:
        print(connection.execute("select current_user, count(*) from visits").fetchone())
print(os.environ["GROUND_CONNECTION_WAREHOUSE_URL"])
print(open(os.environ["ODBCINI"]).read(), open(os.environ["PGPASSFILE"]).read())
for name in ("ODBCINI", "PGPASSFILE", "PGSERVICEFILE"):
    print(name, oct(os.stat(os.environ[name]).st_mode & 0o777))
"""


@pytest.mark.parametrize("user", PASSWORDS)
def test_python_by_url_and_service_and_nothing_of_the_password_is_printed(
    ground: Ground, database: Postgres, user: str
) -> None:
    connect(ground, database, user)
    ground.write("ask.py", PYTHON)
    project(ground, step("ask", "ask.py", 'connections = ["warehouse"]'))
    printed = ground("run", ".").stdout
    assert printed.count(f"('{user}', 3)") == 2, printed
    assert f"postgresql://{user}:***@127.0.0.1:{database.port}/warehouse" in printed
    assert "Password = ***" in printed and f":{user}:***" in printed
    for line in ("ODBCINI 0o600", "PGPASSFILE 0o400", "PGSERVICEFILE 0o400"):
        assert line in printed


@pytest.mark.parametrize("user", PASSWORDS)
def test_r_by_odbc(ground: Ground, database: Postgres, user: str) -> None:
    require("r")
    require("odbc")
    connect(ground, database, user)
    ground.write(
        "ask.R",
        'library(RODBC)\nchannel <- odbcConnect("warehouse")\nstopifnot(channel != -1)\n'
        'print(sqlQuery(channel, "select current_user, count(*) n, sum(score) s from visits"))\n',
    )
    project(ground, step("ask", "ask.R", 'connections = ["warehouse"]'))
    printed = ground("run", ".").stdout
    assert f"{user} 3 11.45" in " ".join(printed.split()), printed


def test_any_program_by_odbc(ground: Ground, database: Postgres) -> None:
    require("odbc")
    connect(ground, database, "odbc")
    ground.write("ask.sh", "echo 'select name from visits where id = 1' | isql -b warehouse\n")
    project(ground, step("ask", "ask.sh", 'connections = ["warehouse"]'))
    assert "Åsa" in ground("run", ".").stdout


def test_a_strangers_work_has_odbc_too(ground: Ground, database: Postgres) -> None:
    """It is confined and no root, for whom alone unixODBC opens a data source's file that cannot be written."""
    for part in ("bubblewrap", "odbc", "r"):
        require(part)
    connect(ground, database, "odbc")
    address = ground("up", "--port", "0").stdout.split()[-1]
    ground("users", "create", "ann")
    ground("teams", "create", "cardio")
    ground("teams", "add", "cardio", "ann", "--role", "member")
    ground("projects", "create", "trial", "--team", "cardio")
    ask = 'print(sqlQuery(odbcConnect("warehouse"), "select count(*) n from visits"))'
    ground.write("ask.R", f"library(RODBC)\n{ask}\n")
    ground.write("ask.sh", "id -u\necho 'select name from visits where id = 1' | isql -b warehouse\nRscript ask.R\n")
    project(ground, step("ask", "ask.sh", 'connections = ["warehouse"]\nnetwork = true'))
    hers = {"GROUND_URL": address, "GROUND_TOKEN": ground.json("tokens", "create", "--user", "ann")["token"]}
    printed = ground("run", ".", **hers).stdout
    assert printed.split()[0] != "0" and "Åsa" in printed and "1 3" in printed, printed


def test_a_query_is_an_input_of_pspp(ground: Ground, database: Postgres) -> None:
    require("spss")
    connect(ground, database, "letters")
    ground.write("ask.sps", 'GET FILE="visits.sav".\nLIST /VARIABLES=id name score seen.\nDESCRIPTIVES score.\n')
    query = "connection:warehouse?sql=select id, name, score, seen from visits order by id"
    project(ground, step("ask", "ask.sps", f'inputs = {{ "visits.sav" = "{query}" }}'))
    printed = ground("run", ".").stdout
    assert "Åsa" in printed and "12.50" in printed and "2024" in printed
    told = ground.json("runs", "show", "latest")["tasks"][0]["inputs"][0]
    assert told["source"] == query and len(told["sha256"]) == 64
    assert any("decimal digits" in sentence for sentence in told["lost"])


def test_types_of_a_query_are_kept(ground: Ground, database: Postgres) -> None:
    connect(ground, database)
    ground.write("keep.sh", "cp all.parquet kept.parquet\n")
    query = "connection:warehouse?sql=select *, score * 2 as twice, avg(score) over () as mean from visits order by id;"
    inputs = f'inputs = {{ "all.parquet" = "{query}" }}\noutputs = ["kept.parquet"]'
    project(ground, step("keep", "keep.sh", inputs))
    ground("run", ".")
    ground("artifacts", "get", "latest", "keep/kept.parquet", "-o", "kept.parquet")
    table = pyarrow.parquet.read_table(ground.work / "kept.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int32",
        "name": "string",
        "score": "decimal128(38, 2)",
        "ratio": "double",
        "seen": "date32[day]",
        "at": "timestamp[us, tz=UTC]",
        "ok": "bool",
        "big": "int64",
        "key": "string",
        "tags": "string",
        "twice": "decimal128(38, 2)",
        "mean": "decimal128(38, 16)",
    }
    first, second, _ = table.to_pylist()
    assert (first["name"], str(first["score"]), str(first["seen"]), first["big"]) == (
        "Åsa",
        "12.50",
        "2024-02-29",
        2**53,
    )
    assert first["tags"] == "{a,b}" and first["at"].isoformat() == "2024-02-29T10:00:00+00:00"
    assert {value for name, value in second.items() if name not in ("id", "mean")} == {None}


def test_a_query_is_reused_by_its_result(ground: Ground, database: Postgres) -> None:
    database.run("warehouse", "CREATE TABLE counts AS SELECT 1 AS n", "GRANT SELECT ON counts TO plain")
    connect(ground, database)
    ground.write("use.sh", "cat n.csv > out.txt\n")
    query = "connection:warehouse?sql=select n from counts"
    project(ground, step("use", "use.sh", f'inputs = {{ "n.csv" = "{query}" }}\noutputs = ["out.txt"]'))

    def reused() -> bool:
        return ground.json("run", ".")["tasks"][0]["reused"]

    assert [reused(), reused()] == [False, True]
    database.run("warehouse", "UPDATE counts SET n = 2")
    assert [reused(), reused()] == [False, True]


def test_what_has_connections_always_runs(ground: Ground, database: Postgres) -> None:
    connect(ground, database)
    ground.write("use.sh", "echo x > out.txt\n")
    project(ground, step("use", "use.sh", 'connections = ["warehouse"]\noutputs = ["out.txt"]'))
    assert [ground.json("run", ".")["tasks"][0]["reused"] for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("selec 1", "query_failed", "syntax error"),
        ("select nothing from visits", "query_failed", "nothing"),
        ("select * from pg_authid", "query_failed", "permission denied"),
        ("delete from visits returning id", "query_failed", "syntax error"),
        ("select nextval('none')", "query_failed", "none"),
        ("select 1 as a, 2 as a", "conversion_refused", "two columns are called a"),
        ("select 'NaN'::numeric as n", "conversion_refused", "NaN"),
        ("select 'infinity'::date as d", "conversion_refused", "infinity"),
    ],
)
def test_what_a_query_cannot_have_is_told(ground: Ground, database: Postgres, sql: str, code: str, says: str) -> None:
    connect(ground, database)
    ground.write("use.sh", "true\n")
    project(ground, step("use", "use.sh", f"""inputs = {{ "n.csv" = "connection:warehouse?sql={sql}" }}"""))
    run = ground.json("run", ".", code=1)
    reason = run["tasks"][0]["reason"]
    assert (reason["code"], reason["fault"]) == (code, "user"), reason
    assert says in reason["message"] and reason["hint"], reason


def test_a_wrong_password_and_a_server_that_is_away(ground: Ground, database: Postgres) -> None:
    ground.put_secret("wrong", "not-the-password")
    ground("connections", "add", "warehouse", url(database, "plain"), "--password-secret", "wrong")
    assert "password authentication failed" in ground("connections", "check", "warehouse", code=3).stdout
    ground("connections", "add", "away", "postgresql://plain@127.0.0.1:1/warehouse", "--password-secret", "wrong")
    found = ground.json("connections", "check", "away", code=3)
    assert (found["name"], found["ok"]) == ("away", False) and "refused" in found["message"]
    ground.write("use.sh", "true\n")
    for name, fault, exit_code in (("warehouse", "user", 1), ("away", "backend", 3)):
        project(ground, step("use", "use.sh", f'inputs = {{ "n.csv" = "connection:{name}?sql=select 1 as n" }}'))
        reason = ground.json("run", ".", code=exit_code)["tasks"][0]["reason"]
        assert (reason["code"], reason["fault"]) == ("connection_failed", fault), reason
        assert "not-the-password" not in json.dumps(reason)


def test_a_connection_is_added_shown_checked_and_forgotten(ground: Ground, database: Postgres) -> None:
    connect(ground, database)
    assert ground("connections", "check", "warehouse").stdout == "warehouse: ok: it answers\n"
    other = url(database, "plain").replace("/warehouse", "/other")
    ground("connections", "add", "warehouse", other, "--project", "trial")
    listed: list[dict[str, Any]] = [each for each in ground.json("connections", "list") if each["name"] == "warehouse"]
    assert [(each["project"], each["url"]) for each in listed] == [(None, url(database, "plain")), ("trial", other)]
    assert ground.json("connections", "show", "warehouse", "--project", "trial")["url"] == other
    assert ground.json("connections", "show", "warehouse", "--project", "else")["secret"] == "plain-password"
    ground("connections", "rm", "warehouse", "--project", "trial")
    ground("connections", "rm", "warehouse")
    assert "no connection 'warehouse'" in ground("connections", "show", "warehouse", code=2).stderr
    ground.write("use.sh", "true\n")
    project(ground, step("use", "use.sh", 'connections = ["warehouse"]'))
    said = ground("run", ".", code=2).stderr
    assert "there is no connection 'warehouse'" in said and "ground connections add warehouse" in said


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://user:secret@host/db", "holds a password"),
        ("postgresql://host/db", "no address of a database"),
        ("postgresql://user@host/db?sslmod=require", "'sslmod' is no option"),
        ("mysql://user@host/db", "connections of the kind mysql:// are not known"),
        ("warehouse", "no address"),
        ("s3://KEY@bucket/prefix", "lacks --password-secret"),
    ],
)
def test_an_address_that_is_none(ground: Ground, address: str, says: str) -> None:
    said = ground("connections", "add", "warehouse", address, code=2).stderr
    assert says in said and "hint:" in said
    assert "user:secret" not in said


def test_a_bucket_in_the_words_of_fsspec(ground: Ground) -> None:
    ground.put_secret("lake-key", 'kéy "quoted"')
    address = "s3://AKID@lake/raw?endpoint_url=http%3A%2F%2F127.0.0.1%3A9000&region=eu-north-1"
    ground("connections", "add", "lake", address, "--password-secret", "lake-key")
    ground.write(
        "ask.py",
        'import json, os\nprint(os.environ["GROUND_CONNECTION_LAKE_URL"])\n'
        'options = json.loads(os.environ["GROUND_CONNECTION_LAKE_OPTIONS"])\n'
        'print(len(options.pop("secret")), sorted(options.items()), os.environ["GROUND_CONNECTION_LAKE_OPTIONS"])\n',
    )
    project(ground, step("ask", "ask.py", 'connections = ["lake"]'))
    printed = ground("run", ".").stdout
    assert "s3://lake/raw\n" in printed
    assert (
        "12 [('client_kwargs', {'region_name': 'eu-north-1'}), ('endpoint_url', 'http://127.0.0.1:9000'), " in printed
    )
    assert '"secret": "***"' in printed


def test_what_is_needed_is_named(ground: Ground) -> None:
    assert shutil.which("psql"), "the tests' PostgreSQL brings it"
    ground("connections", "add", "warehouse", "postgresql://u@127.0.0.1/db", "--password-secret", "nobody-set-it")
    ground.write("use.sh", "true\n")
    for more in ('connections = ["warehouse"]', 'inputs = { "n.csv" = "connection:warehouse?sql=select 1" }'):
        project(ground, step("use", "use.sh", more))
        said = ground("run", ".", code=2).stderr
        assert "there is no secret 'nobody-set-it'" in said and "ground secrets set nobody-set-it" in said
    for source in ("connection:warehouse", "connection:Ware House?sql=x", "connection:warehouse?sql="):
        project(ground, step("use", "use.sh", f'inputs = {{ "n.csv" = "{source}" }}'))
        assert "ground.toml" in ground("run", ".", code=2).stderr
    project(ground, step("use", "use.sh", 'inputs = { "n.txt" = "connection:warehouse?sql=select 1" }'))
    assert "a query's result is a table" in ground("run", ".", code=2).stderr


def test_a_query_of_each_item(ground: Ground, database: Postgres) -> None:
    connect(ground, database)
    ground.write("use.sh", "tail -n +2 n.csv\n")
    query = """connection:warehouse?sql=select id, '100% {x} {"a":1}' as t from visits where id = {id}"""
    inputs = f"""for_each = {{ id = [1, 3] }}\ninputs = {{ "n.csv" = '''{query}''' }}"""
    project(ground, step("use", "use.sh", inputs))
    assert sorted(ground("run", ".").stdout.split("\n")[:2]) == [
        '1,"100% {x} {""a"":1}"',
        '3,"100% {x} {""a"":1}"',
    ]


def test_a_query_ends_with_its_run(ground: Ground, database: Postgres) -> None:
    connect(ground, database)
    ground.write("use.sh", "true\n")
    query = "connection:warehouse?sql=select pg_sleep(100) as s"
    project(ground, step("use", "use.sh", f'inputs = {{ "n.csv" = "{query}" }}'))
    run = ground.json("run", ".", "--detach")["id"]

    def asleep() -> bool:
        with psycopg.connect(database.url("postgres")) as connection:
            running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = 'plain'"
            return bool(connection.execute(running).fetchone()[0])

    until(asleep, "the query runs")
    ground("runs", "cancel", run)
    until(lambda: not asleep(), "the query has ended")
