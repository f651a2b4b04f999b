"""MLflow's model registry: a bundle as a version of a registered model, and the alias `champion` on one of them.

The version is an MLflow pyfunc: the bundle as it is, and the name of the module in shopkeeper-serving that reads it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from shopkeeper.config import UserError
from shopkeeper.train.tracking import DATASET_HASH, Store, TrackedRun

CHAMPION = "champion"
JUDGED_RUN = "shopkeeper.judged_run"
"""The run whose figures a version has: of a refit, which is not judged, the run it repeats."""
LOADER = "shopkeeper_serving.pyfunc"
REQUEST = "request"
"""The column of the model's input: a request per row, as JSON text; so is its answer."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    number: str
    run_id: str  # the judged one
    dataset_hash: str


@dataclass(frozen=True)
class Registry:
    """The versions of one registered model."""

    store: Store
    name: str

    def champion(self) -> Version | None:
        """The version that bears the alias, if one does."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.store.client.get_model_version_by_alias(self.name, CHAMPION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model, or no alias
                return None
            raise
        return Version(str(found.version), found.tags.get(JUDGED_RUN, ""), found.tags.get(DATASET_HASH, ""))

    def register(self, bundle: Path, run: TrackedRun, *, tags: Mapping[str, str]) -> str:
        """Keep the bundle with its run and register it; the number of the new version.

        Raises:
            UserError: when the store refuses the name, or does not take the files.
        """
        from mlflow.exceptions import MlflowException

        place = f"bundles/{(bundle / 'manifest.json').stat().st_mtime_ns}"
        try:
            with TemporaryDirectory() as folder:
                self.store.client.log_artifacts(run.run_id, str(as_pyfunc(bundle, Path(folder) / "model")), place)
            self.ensure_model()
            source = f"{self.store.client.get_run(run.run_id).info.artifact_uri}/{place}"
            made = self.store.client.create_model_version(self.name, source, run.run_id, tags=dict(tags))
        except MlflowException as error:
            raise UserError(f"register={self.name}: {str(error).splitlines()[0]}") from error
        return str(made.version)

    def ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.store.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def crown(self, version: str) -> None:
        """Move the alias `champion` to a version."""
        self.store.client.set_registered_model_alias(self.name, CHAMPION, version)


def as_pyfunc(bundle: Path, folder: Path) -> Path:
    """The bundle as a folder that MLflow loads: no code and no pickle, but the name of what reads it."""
    with warnings.catch_warnings():
        for advice in (".*Any type hint is inferred.*", ".*input example was not provided.*"):
            warnings.filterwarnings(
                "ignore", advice
            )  # of MLflow 3: on its own types, and on examples; golden.jsonl has some
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        asked, answered = ColSpec(DataType.string, REQUEST), ColSpec(DataType.string)
        mlflow.pyfunc.save_model(
            folder,
            loader_module=LOADER,
            data_path=str(bundle),
            signature=ModelSignature(inputs=Schema([asked]), outputs=Schema([answered])),
            pip_requirements=[f"shopkeeper-serving=={version('shopkeeper-serving')}"],
        )
    return folder
