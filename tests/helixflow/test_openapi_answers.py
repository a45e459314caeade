"""Answers that tests/e2e/test_docs.py can't get alone, held to the schema: for two people with verified addresses, and
of batches that nobody works on."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, Organization, User
from helixflow.site.openapi import document
from tests import factories
from tests.accounts.team import api, send, verified
from tests.described import problems
from tests.inference.batch import rows
from webhooks.models import DeliveryState, Endpoint

Answers = dict[str, Any]


@pytest.fixture
def answers(owner: User, member: User, organization: Organization) -> Answers:
    """By operation, in an order in which each finds what it needs."""
    caller = api(verified(owner))

    def call(name: str, body: Any = None, **parts: str) -> Any:
        operation = next(each for each in document.OPERATIONS.values() if each.id == name)
        path = f"/v1{operation.path.format(**parts)}"
        answer = send(caller, operation.method.upper(), path, body or operation.example_body)
        assert answer.status_code == operation.status, answer.content
        return answer.json()

    found = {"createOrganization": call("createOrganization")}
    caller.defaults["HTTP_X_HELIXFLOW_ORGANIZATION"] = organization.public_id
    found["createInvitation"] = call("createInvitation")
    invitation = {"invitation_id": found["createInvitation"]["data"]["id"]}
    for name in ("getInvitation", "resendInvitation", "withdrawInvitation"):
        found[name] = call(name, **invitation)
    found["listMembers"] = call("listMembers")
    found["updateMember"] = call("updateMember", user_id=member.public_id)
    found["listAuditEvents"] = call("listAuditEvents")
    url = {"url": "https://93.184.215.14/hooks", "events": ["quota.low"]}
    found["createWebhook"] = call("createWebhook", url)
    endpoint = Endpoint.objects.get(organization=organization)
    delivery = factories.delivery(endpoint, state=DeliveryState.FAILED)
    ids = {"endpoint_id": endpoint.public_id, "delivery_id": delivery.public_id}
    found["resendWebhookDelivery"] = call("resendWebhookDelivery", {}, **ids)
    found["transferOrganization"] = call("transferOrganization", {"user_id": member.public_id})
    found["removeMember"] = call("removeMember", user_id=owner.public_id)  # leaves
    return found | of_batches(*api_keys.create(organization=organization, user=owner, name="CI"))


def of_batches(key: ApiKey, token: str) -> Answers:
    caller = Client(headers={"Authorization": f"Bearer {token}"})
    refused = {"code": "invalid_line", "message": "url is required.", "param": "url", "line": 1}
    running, ended = rows.batch(key, [200, None]), rows.batch(key, [200, 400, "batch_expired"])
    rows.batch(key, status="failed", errors=[refused])
    return {
        "cancelBatch": caller.post(f"/v1/batches/{running.public_id}/cancel").json(),
        "retryBatch": caller.post(f"/v1/batches/{ended.public_id}/retry").json(),
        "listBatchResults": caller.get(f"/v1/batches/{ended.public_id}/results").json(),
        "listBatches": caller.get("/v1/batches").json(),
    }


def test_answers_are_as_described(answers: Answers) -> None:
    described = json.loads(document.encoded()[0])
    wrong = {}
    for operation in document.OPERATIONS.values():
        if operation.id in answers:
            told = described["paths"][operation.path][operation.method]["responses"][str(operation.status)]
            schema = told["content"]["application/json"]["schema"]
            if found := problems(described, schema, answers[operation.id]):
                wrong[operation.id] = found
    assert wrong == {}
    assert len(answers["listAuditEvents"]["data"]) > 1


def test_the_description_may_be_read_by_other_sites(client: Client) -> None:
    """CORS is the ASGI application's; nothing here may stand in its way."""
    answer = client.get("/v1/openapi.json")
    assert "Set-Cookie" not in answer
    assert "Cookie" not in answer.get("Vary", "")
