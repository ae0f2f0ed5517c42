"""The whole loop: people chat and judge, weights move, the new version answers, one may go back.

`burnish up` as anyone would start it, on a tiny random model with short intervals: this is about the
way of a thumbs-down through every room, not about what can be learnt from it.
"""

from pathlib import Path

import httpx2 as httpx
import pytest

from tests.service import Service

# Small and quick. A random model has no skill to lose, so the gate's bounds are wide open.
IN_A_HURRY = {
    "BURNISH_UPDATE_EVERY": "2",
    "BURNISH_INTAKE_EVERY": "1",
    "BURNISH_MIN_FEEDBACK": "6",
    "BURNISH_MIN_EXPERIENCE": "6",
    "BURNISH_UPDATE_SECONDS": "5",
    "BURNISH_UPDATE_STEPS": "2",
    "BURNISH_ANSWERS_PER_STEP": "8",
    "BURNISH_MAX_ANSWER_TOKENS": "12",
    "BURNISH_GATE_TASKS_PER_FAMILY": "1",
    "BURNISH_GATE_LIMITS": str(Path(__file__).parent / "learner/update/lenient.yaml"),
    "BURNISH_GATE_SKILL_MARGIN": "1",
    "BURNISH_GATE_MAX_KL": "50",
    "BURNISH_LORA_RANK": "4",
    "BURNISH_LEARNING_RATE": "0.0001",
}


@pytest.mark.timeout(600)
def test_a_thumbs_down_reaches_the_weights_and_the_new_version_answers(
    tiny_model: Path, tmp_path: Path
):
    with Service(tmp_path / "data", tiny_model, **IN_A_HURRY) as service:
        # People chat. Everyone is answered by version 1, the frozen base.
        answers = [chat(service, f"What is {n} + 4?") for n in range(8)]
        assert {answer.system_fingerprint for answer in answers} == {"default@1"}

        # They judge: a 202 means the judgement is on disk.
        judged = {service.judge(a.id, "down" if n % 2 else "up") for n, a in enumerate(answers)}

        # The learner takes it in, trains, and the gate lets a new champion through.
        champion = service.wait_until(
            lambda: newer_champion(service), 400, "no update was promoted"
        )

        # It answers from now on, and knows whose judgement made it.
        assert chat(service, "What is 1 + 1?").system_fingerprint == f"default@{champion}"
        version = get(service, f"/v1/policies/default/versions/{champion}")
        assert version["parent"] == 1
        assert version["gate_report"]["passed"]
        learnt = {
            event.split("/")[-1].partition("#")[0] for event in version["lineage"]["feedback_ids"]
        }
        assert learnt <= judged
        assert len(learnt) >= 6

        # The learner says what it did, once it is done with it.
        def told() -> bool:
            ticks = get(service, "/v1/learner")["ticks"]
            return any(f"default@{champion}" in tick["did"] for tick in ticks)

        service.wait_until(told, 60, "the learner does not say what it did")

        # It says too what these judgements are worth, and what would help.
        service.wait_until(
            lambda: get(service, "/v1/learner/report")["report"], 60, "there is no report"
        )
        report = get(service, "/v1/learner/report")["report"]
        assert report["votes"] >= 6
        assert report["verdict"] == "too few votes"
        assert report["advice"][0]["name"] == "few_votes"

        # The old version can still be asked for, and put back.
        assert chat(service, "Hi", model="default@1").system_fingerprint == "default@1"
        httpx.post(f"{service.url}/v1/policies/default/rollback", timeout=60).raise_for_status()
        assert chat(service, "What is 1 + 1?").system_fingerprint == "default@1"


def chat(service: Service, text: str, model: str = "default"):
    return service.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], max_tokens=12
    )


def get(service: Service, path: str):
    answer = httpx.get(f"{service.url}{path}", timeout=30)
    answer.raise_for_status()
    return answer.json()


def newer_champion(service: Service) -> int | None:
    champion = get(service, "/v1/policies/default")["champion"]
    return champion if champion > 1 else None
