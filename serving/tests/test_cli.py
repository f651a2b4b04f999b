import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shopkeeper_serving import cli

SECONDS = 30
"""How long anything may take before it counts as hung."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "shopkeeper_serving.cli", *(str(a) for a in arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=SECONDS, check=False)


def one_error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@contextlib.contextmanager
def served(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running service and the line that it printed when it was ready."""
    with subprocess.Popen(
        command(*arguments, "--port", 0), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], SECONDS)
            assert ready, "the service did not start"
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_a_started_service_names_its_port_and_answers(make_bundle: Callable[..., Path]) -> None:
    with served(make_bundle("repeat")) as (process, line):
        found = re.fullmatch(r"serving tiny-repeat run1 on (http://127\.0\.0\.1:\d+)\n", line)
        assert found
        request = urllib.request.Request(f"{found[1]}/v1/predict", data=b'{"events": [], "k": 1}')
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            answer = json.load(response)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)

    assert answer["items"]["purchase"][0]["item_id"] == "apple"
    assert errors == ""
    assert process.returncode == 0


def test_the_token_of_a_file_is_needed(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")

    with served(make_bundle(), "--token-file", token) as (_, line):
        address = line.split()[-1]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/v1/model", timeout=SECONDS)
        refused.value.close()
        request = urllib.request.Request(f"{address}/v1/model", headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            assert response.status == 200

    assert refused.value.code == 401


def test_a_busy_port_is_one_line(make_bundle: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        line = one_error_line(run(make_bundle(), "--port", port))

    assert f"127.0.0.1:{port}" in line


@pytest.mark.parametrize("port", [70000, -1])
def test_a_port_that_cannot_be_is_one_line(make_bundle: Callable[..., Path], port: int) -> None:
    assert str(port) in one_error_line(run(make_bundle(), f"--port={port}"))


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    line = one_error_line(run(tmp_path / "nothing", "--port", 0))

    assert str(tmp_path / "nothing" / "manifest.json") in line


@pytest.mark.parametrize("name", ["prior.npy", "item_ids.json", "golden.jsonl", "manifest.json"])
def test_a_damaged_bundle_is_one_line(make_bundle: Callable[..., Path], name: str) -> None:
    bundle = make_bundle()
    file = bundle / name
    file.write_bytes(file.read_bytes()[:-7])

    assert str(file) in one_error_line(run(bundle, "--port", 0))


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"", "is empty"), (b"\xff\xfe", "not text")])
def test_a_bad_token_file_is_one_line(
    make_bundle: Callable[..., Path], tmp_path: Path, content: bytes | None, says: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)

    line = one_error_line(run(make_bundle(), "--token-file", token))

    assert str(token) in line
    assert says in line


def test_help_does_not_load_numpy() -> None:
    code = (
        "import sys\n"
        "from shopkeeper_serving.cli import main\n"
        "sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit: sys.exit('numpy' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False)

    assert done.returncode == 0
    assert "--token-file" in done.stdout


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.TOKEN_VARIABLE, "secret")
    assert cli.read_token(None) == "secret"
    monkeypatch.setenv(cli.TOKEN_VARIABLE, "")
    assert cli.read_token(None) is None


def test_numpy_is_told_to_run_on_one_thread() -> None:
    quiet = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    code = (
        "import os, socket\n"
        "from pathlib import Path\n"
        "from shopkeeper_serving import cli\n"
        "try: cli.serve(Path('nothing'), socket.socket(), token=None, log_level='error')\n"
        "except SystemExit: print(os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_NUM_THREADS'])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=quiet, capture_output=True, text=True, timeout=SECONDS, check=False
    )

    assert done.stdout == "1 1\n"
