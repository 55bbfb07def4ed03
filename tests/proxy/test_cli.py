"""The command line as it is declared, and as a person types it."""

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import cli
from proxy.options import OPTIONS

PROXY = Path(cli.__file__).parent


def lockgate(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli", *map(str, words)], capture_output=True, text=True, timeout=60, **more
    )


def functions():
    """Every public function of our modules that takes the parsed arguments: the commands."""
    for path in PROXY.glob("*.py"):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and len(node.args.args) == 1:
                annotation = node.args.args[0].annotation
                if annotation is not None and ast.unparse(annotation) == "argparse.Namespace":
                    yield f"proxy.{path.stem}:{node.name}"


def test_the_table_is_the_functions():
    helpers = {"proxy.options:state"}
    assert {where for where, _ in cli.COMMANDS.values()} == set(functions()) - helpers
    assert all(where.endswith(":" + name.replace("-", "_")) for name, (where, _) in cli.COMMANDS.items())


def test_every_option_is_used_by_a_command_and_read_by_its_module():
    assert {option for _, options in cli.COMMANDS.values() for option in options} == set(OPTIONS)
    for where, options in cli.COMMANDS.values():
        source = (PROXY / f"{where.partition(':')[0].rpartition('.')[2]}.py").read_text()
        for option in set(options) - {"state"}:
            flags, settings = OPTIONS[option]
            flag = next((flag for flag in flags if flag.startswith("--")), flags[0])
            name = settings.get("dest", flag.lstrip("-").replace("-", "_"))
            assert f"arguments.{name}" in source, (where, option)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    assert "example:\n" in shown
    assert f"lockgate {name}" in shown
    assert cli.resolve(name).__doc__


def test_help_names_every_command_and_loads_none_of_them():
    script = (
        "import sys; from proxy import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith(('mitmproxy', 'cryptography', 'yaml'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(f"\n    {name} " in done.stdout for name in cli.COMMANDS)
    assert done.stdout.endswith("[]\n")


def test_the_launcher_loads_neither_the_engine_nor_keys():
    script = "import sys, proxy.commands, proxy.runner; print([m for m in sys.modules if m.startswith('mitmproxy')])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="nothing"),
        pytest.param(["nonsense"], id="no such command"),
        pytest.param(["check"], id="a file is missing"),
        pytest.param(["check", "/nonexistent.yaml"], id="no such file"),
        pytest.param(["run"], id="no command to run"),
        pytest.param(["run", "--", "/nonexistent"], id="no such program"),
        pytest.param(["start", "--listen", "8080"], id="half an address"),
        pytest.param(["start", "--capture", "explicit", "--only-user", "root"], id="a scope for the explicit proxy"),
        pytest.param(["events", "--state", "/nonexistent"], id="no events"),
        pytest.param(["events", "--since", "yesterday"], id="no time"),
        pytest.param(["events", "--limit", "0"], id="none of them"),
        pytest.param(["events", "--limit", "3", "--follow"], id="the newest, and the next"),
        pytest.param(["events", "--verdict", "perhaps"], id="no verdict"),
        pytest.param(["explain"], id="nothing to explain"),
        pytest.param(["explain", "gopher://a.example/"], id="not of the web"),
        pytest.param(["explain", "https://[bad/"], id="no address"),
        pytest.param(["explain", "https://a b/"], id="no host"),
        pytest.param(["explain", "https://a.example/", "-H", "nocolon"], id="no header"),
        pytest.param(["explain", "https://a.example/", "--body-file", "/nonexistent"], id="no body"),
        pytest.param(["scan", "/nonexistent"], id="nothing to scan"),
        pytest.param(["ca", "show", "--state", "/nonexistent"], id="no root"),
        pytest.param(["ca", "create", "--state", "/proc/lockgate"], id="a folder that cannot be made"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(words, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = lockgate(*words, env=os.environ | {"XDG_STATE_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert (done.stderr != "", "Traceback" in done.stderr, done.stdout) == (True, False, "")


def test_a_reader_that_leaves_is_no_error(tmp_path):
    (tmp_path / "file").write_text("AKIA4QXB7ZKLMRTW2NPD\n" * 5000)
    scan = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "scan", tmp_path, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with scan:
        scan.stdout.readline()
        scan.stdout.close()
        assert (scan.stderr.read(), scan.wait()) == ("", 0)


def test_resolve_gives_the_function():
    assert cli.resolve("stop").__name__ == "stop"
    assert isinstance(cli.parser(), argparse.ArgumentParser)
