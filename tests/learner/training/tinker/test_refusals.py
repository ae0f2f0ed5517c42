"""What a Tinker service refuses, or we do, is one line that names the setting to look at."""

import math
import sys

import pytest
from burnish.learner.training.tinker import open_connection
from burnish.learner.training.tinker_errors import TrainingServiceError
from burnish.ops.settings import free_port
from pydantic import SecretStr

from tests.learner.training.sharded_case import batch_of
from tests.learner.training.tinker.service import BASE, KEY, Failure


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tinker_key": None}, r"^training at a Tinker service needs BURNISH_TINKER_KEY$"),
        ({"tinker_model": None}, r"^training at a Tinker service needs BURNISH_TINKER_MODEL$"),
        ({"tinker_key": SecretStr("tml-another-key")}, r"^BURNISH_TINKER_KEY: .* refuses the key"),
        ({"tinker_key": SecretStr("another-key")}, r"^BURNISH_TINKER_KEY: .* 'tml-' prefix"),
        ({"tinker_model": "Tiny/Huge"}, rf"^BURNISH_TINKER_MODEL: .* train Tiny/Huge, but {BASE}$"),
        ({"tinker_model": "Tiny/Read-Only"}, rf"^BURNISH_TINKER_MODEL: .* but {BASE}$"),
        (
            {"tinker_url": f"http://127.0.0.1:{free_port()}"},
            r"^BURNISH_TINKER_URL: nothing answers at http://127\.0\.0\.1:\d+: ",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_named_in_one_line(settings, changed, said):
    with pytest.raises(TrainingServiceError, match=said) as raised:
        open_connection(settings.model_copy(update=changed))
    assert "another-key" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, r"^BURNISH_TINKER_KEY: Tinker refuses the key; creating a training run of "),
        (402, r"^BURNISH_TINKER_KEY: Tinker has not been paid for; "),
        (403, r"^BURNISH_TINKER_KEY: this key may not do that; "),
        (404, r"^Tinker no longer has what was asked for; "),
        (422, r"^Tinker answers 422; .* failed: out of order$"),
        (429, r"^Tinker still limits the requests of BURNISH_TINKER_KEY after all retries "),
        (500, r"^Tinker answers 500; "),
    ],
)
def test_a_failure_that_stays_is_told_in_one_line(new_trainer, service, status, said):
    service.failures = {"create_model": Failure(status, math.inf, message="out\nof order")}
    with pytest.raises(TrainingServiceError, match=said) as raised:
        new_trainer()
    assert "\n" not in str(raised.value)


def test_another_base_than_ours_is_noticed_before_the_first_step(new_trainer, service):
    service.base_shift = 1.5
    trainer = new_trainer()
    with pytest.raises(TrainingServiceError, match=r"^BURNISH_TINKER_MODEL: .* 1\.50 nats"):
        trainer.step(batch_of(0))
    assert not service.calls["forward_backward"]


def test_an_adapter_that_does_not_fit_our_model_is_refused(new_trainer, service):
    service.exports_without = "layers.1.mlp.experts.2.up_proj.lora_B"
    trainer = new_trainer()
    trainer.step(batch_of(0))
    with pytest.raises(TrainingServiceError, match=r"^BURNISH_TINKER_MODEL: .* lacks .*up_proj"):
        _ = trainer.adapter


def test_a_download_that_keeps_failing_is_told(new_trainer, service):
    service.failures = {"files": Failure(500, math.inf)}
    trainer = new_trainer()
    trainer.step(batch_of(0))
    with pytest.raises(TrainingServiceError, match=r"downloading tinker://.* failed: HTTP Error"):
        _ = trainer.adapter
    assert service.calls["files"] == 3


def test_the_extra_is_named_where_it_is_missing(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "tinker", None)
    monkeypatch.delitem(sys.modules, "burnish.learner.training.tinker_session")
    with pytest.raises(TrainingServiceError, match=r"pip install 'burnish\[tinker\]'"):
        open_connection(settings)


def test_the_key_is_not_shown_with_the_settings(settings):
    assert KEY not in repr(settings) + str(settings.model_dump())
