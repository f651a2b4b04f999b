import subprocess
import sys


def test_the_module_is_the_console_command() -> None:
    result = subprocess.run([sys.executable, "-m", "shopkeeper"], capture_output=True, text=True, check=True)

    assert result.stdout.startswith("usage: shopkeeper <command>")
