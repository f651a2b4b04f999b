from collections.abc import Callable

import pytest
import torch

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.models.blend import Blend
from shopkeeper.models.checkpoint import load_model
from shopkeeper.train import tracking as names
from shopkeeper.train.fit import train
from shopkeeper.train.tracking import TrackedRun

Config = Callable[..., TrainConfig]
Silent = Callable[[str], None]
COUNTED = ("model=blend", "~model.parts.sasrec", "+model@model.parts.popularity=popularity")


def blend_of(run: TrackedRun) -> Blend:
    model = load_model(run.file(names.MODEL_FILE))
    assert isinstance(model, Blend)
    return model


def test_parts_are_trained_and_weighed_and_a_refit_keeps_the_weights(config: Config, silent: Silent) -> None:
    small = ("model=blend", "model.parts.sasrec.embed_dim=8", "model.parts.sasrec.num_layers=1")
    run = train(config(*small), say=silent)
    refit = train(config(*small, f"refit={run.run_id}"), say=silent)

    assert run.tags[names.FAMILY] == "blend"
    assert len(run.curve("val_epoch/mean")) == 4
    assert run.metrics["val/primary"] == run.metrics["val/purchase/ndcg_at_20"]
    assert list(blend_of(run).named_parts()) == ["sasrec", "vmis_knn", "repeat"]
    assert torch.equal(blend_of(refit).weights, blend_of(run).weights)
    assert refit.metrics == {}


def test_a_part_can_be_taken_from_the_best_run_of_its_family(config: Config, silent: Silent) -> None:
    other = train(config("model=repeat", "model.decay=0.5"), say=silent)

    run = train(config(*COUNTED, "model.runs.repeat=best"), say=silent)

    blend = blend_of(run)
    assert blend.runs == {"repeat": other.run_id}
    assert blend.named_parts()["repeat"].decay == 0.5
    assert run.store.client.get_run(run.run_id).data.params["model/parts/repeat/decay"] == "0.5"


def test_a_refit_takes_the_refit_of_such_a_part(config: Config, silent: Silent) -> None:
    other = train(config("model=repeat"), say=silent)
    run = train(config(*COUNTED, "model.runs.repeat=best"), say=silent)

    with pytest.raises(UserError, match=f"has no refit: shopkeeper train refit={other.run_id}"):
        train(config(*COUNTED, f"refit={run.run_id}"), say=silent)
    train(config("model=repeat", f"refit={other.run_id}"), say=silent)
    refit = train(config(*COUNTED, f"refit={run.run_id}"), say=silent)

    assert blend_of(refit).named_parts()["repeat"].vocabulary == blend_of(refit).vocabulary


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.runs.tifu=best",), "model.runs.tifu: the blend has no such part; its parts are: vmis_knn, repeat"),
        (("model.runs.repeat=best",), "no finished repeat run"),
        (("model.runs.repeat=abc",), "there is no run 'abc'"),
    ],
)
def test_a_run_that_is_not_there_is_named(
    config: Config, silent: Silent, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(config(*COUNTED, *overrides), say=silent)


def test_a_run_of_another_longest_history_does_not_fit(config: Config, silent: Silent) -> None:
    train(config("model=repeat", "batches.max_len=5"), say=silent)

    with pytest.raises(UserError, match="that model's max_len is 5, the blend's 10"):
        train(config(*COUNTED, "model.runs.repeat=best"), say=silent)


def test_gradients_train_one_part(config: Config, silent: Silent) -> None:
    with pytest.raises(UserError, match=r"trains one part by gradient, not sasrec and gru4rec: .*gru4rec: best"):
        train(config("model=blend", "+model@model.parts.gru4rec=gru4rec"), say=silent)
