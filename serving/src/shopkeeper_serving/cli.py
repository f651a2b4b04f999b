"""shopkeeper-serve: a bundle -> an HTTP service; what goes wrong for a known reason is one line and exit code 2."""

import argparse
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

TOKEN_VARIABLE = "SHOPKEEPER_TOKEN"
GRACE_SECONDS = 10
"""How long requests that are being answered may hold up the end of the service."""


def main() -> None:
    arguments = parse(sys.argv[1:])
    token = read_token(arguments.token_file)
    with bind(arguments.host, arguments.port) as listener:
        serve(arguments.bundle, listener, token=token, log_level=arguments.log_level)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="shopkeeper-serve", description="Serve a shopkeeper bundle over HTTP.")
    parser.add_argument("bundle", type=Path, help="folder made by `shopkeeper export`")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--token-file", type=Path, help=f"file with the bearer token that clients need (or set {TOKEN_VARIABLE})"
    )
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    return parser.parse_args(arguments)


def read_token(file: Path | None) -> str | None:
    """The token of the file or the environment; None leaves the service open."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"--token-file {file}: {getattr(error, 'strerror', None) or 'not text'}")
    return token or fail(f"--token-file {file} is empty")


def bind(host: str, port: int) -> socket.socket:
    """Take the port before the bundle is loaded: who cannot listen should learn it at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        fail(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}; choose another --port")
    return listener


def serve(bundle: Path, listener: socket.socket, *, token: str | None, log_level: str) -> None:
    """Load the bundle, say where it is served, and answer until a signal ends it."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # read when NumPy is imported, below
    import uvicorn

    from shopkeeper_serving.app import make_app
    from shopkeeper_serving.bundle import BundleError
    from shopkeeper_serving.predictor import Predictor

    try:
        predictor = Predictor.load(bundle)
    except BundleError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or bundle}: {error.strerror or error}")
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {predictor.info.name} {predictor.info.version} on http://{shown}:{port}", flush=True)
    app = make_app(predictor, token=token)
    config = uvicorn.Config(app, log_level=log_level, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    with contextlib.suppress(KeyboardInterrupt):  # raised once more after Ctrl-C has ended the service in good order
        uvicorn.Server(config).run(sockets=[listener])


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
