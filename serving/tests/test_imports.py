import json
import pkgutil
import subprocess
import sys

import shopkeeper_serving

FOREIGN = {"torch", "pytorch_lightning", "lightning", "hydra", "omegaconf", "mlflow", "optuna", "pandas", "shopkeeper"}


def test_no_module_imports_what_training_needs() -> None:
    names = [m.name for m in pkgutil.iter_modules(shopkeeper_serving.__path__, "shopkeeper_serving.")]
    code = f"import json, sys\nfor name in {names!r}: __import__(name)\nprint(json.dumps(list(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    loaded = set(json.loads(done.stdout))
    assert "shopkeeper_serving.predictor" in names
    assert set(names) <= loaded
    assert FOREIGN & loaded == set()


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, shopkeeper_serving; sys.exit('numpy' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
