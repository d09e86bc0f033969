"""The server against its own description: right and wrong requests made from /openapi.json."""

import logging
import os

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from servers import is_refused, serving
from test_serve_hostile import COMPLETION, COMPLETIONS, SECONDS, SERVICE, TEXT, ask_all

CASES = int(os.environ.get("SCHEMA_CASES", "8"))
"""Number of requests of each route and mode; the variable is for longer runs by hand."""
MODES = tuple(schemathesis.GenerationMode)
DOCUMENT = ask_all({"method": "GET", "url": "/openapi.json"})[0].json()
OPERATIONS = [each.ok() for each in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]


@pytest.fixture(scope="module")
def client():
    logging.getLogger("nextok.serve").setLevel(logging.DEBUG)
    with serving(SERVICE) as address, httpx.Client(base_url=address, timeout=SECONDS) as client:
        yield client
        again = client.post(COMPLETIONS, json=COMPLETION)
        assert again.json()["choices"][0]["text"] == TEXT


def check(operation, answer):
    """An error of the client in OpenAI's form, or what the document says."""
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) > 0
    elif answer.status_code != 200:
        assert answer.status_code < 500, answer.text
        is_refused(answer, answer.status_code)
    told = operation.definition.raw["responses"]
    assert str(answer.status_code) in {*told, "405"}
    kind = answer.headers["content-type"].split(";")[0]
    if answer.status_code == 200:
        assert kind in told["200"]["content"]
        if "schema" in told["200"]["content"][kind]:
            jsonschema.validate(answer.json(), told["200"]["content"][kind]["schema"])


@pytest.mark.parametrize(
    ("operation", "mode"),
    [(each, mode) for each in OPERATIONS for mode in MODES if mode.is_positive or each.body],  # a GET cannot be wrong
    ids=lambda each: each.label if hasattr(each, "label") else each.value,
)
def test_every_answer_is_as_described(operation, mode, client):

    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data):
        case = data.draw(operation.as_strategy(generation_mode=mode))
        sent = case.as_transport_kwargs(base_url=str(client.base_url))
        known = {name: sent[name] for name in ("method", "url", "headers", "params", "json") if sent.get(name)}
        if isinstance(sent.get("data"), bytes):
            known["content"] = sent["data"]
        elif "json" in sent:
            known["json"] = sent["json"]
        check(operation, client.request(**known))

    run()
