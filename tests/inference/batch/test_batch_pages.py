import pytest
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, Membership, Role
from inference.batch import reading
from inference.batch_models import Batch, BatchItem, BatchStatus, Purpose
from tests.inference.batch import rows

HTMX = {"HX-Request": "true"}


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def browser(owner) -> Client:
    browser = Client()
    browser.force_login(owner)
    return browser


def a_batch(key, *, completed=0, failed=0, waiting=0, code=400, **fields) -> Batch:
    known = {} if waiting else {"completed_at": timezone.now()}
    return rows.batch(key, [200] * completed + [code] * failed + [None] * waiting, **(known | fields))


def signed_in(user) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def page(browser, url, status=200, **headers):
    answer = browser.get(url, headers=headers)
    assert answer.status_code == status
    return answer.content.decode()


def url_of(batch, rest=""):
    return f"/dashboard/batches/{batch.public_id}{rest}"


def test_without_batches_the_page_says_what_they_are_and_how_to_begin(browser, organization):
    html = page(browser, "/dashboard/batches")
    assert "No batches yet" in html
    assert "/v1/batches" in html


def test_the_list_shows_how_each_is_doing(browser, key):
    a_batch(key, completed=2, failed=1)
    running = a_batch(key, completed=1, waiting=3)
    html = page(browser, "/dashboard/batches")
    assert "3 of 3" in html
    assert "1 failed" in html
    assert "1 of 4" in html
    assert running.public_id in page(browser, "/dashboard/batches?status=open")
    assert "Nothing matches" in page(browser, "/dashboard/batches?status=cancelled")
    assert running.public_id in page(browser, f"/dashboard/batches?key={key.public_id}")


def test_the_list_answers_nothing_as_long_as_nothing_changes(browser, key):
    batch = a_batch(key, completed=1, waiting=1)
    first = browser.get("/dashboard/batches", headers=HTMX)
    seen = first.context["seen"]
    assert browser.get(f"/dashboard/batches?seen={seen}", headers=HTMX).status_code == 204
    Batch.objects.filter(id=batch.id).update(completed=2)
    assert "2 of 2" in page(browser, f"/dashboard/batches?seen={seen}", **HTMX)


@pytest.mark.parametrize("query", ["status=odd", "key=key_nobody", "cursor=odd"])
def test_filters_that_nobody_knows_are_refused(browser, key, query):
    a_batch(key, completed=1)
    answer = browser.get(f"/dashboard/batches?{query}")
    assert answer.status_code == 400 or "These filters can't be used" in answer.content.decode()


def test_a_batch_moves_by_itself_and_is_shown_whole_at_its_end(browser, key):
    batch = a_batch(key, completed=1, waiting=1)
    whole = browser.get(url_of(batch))
    assert "1 of 2 requests" in whole.content.decode()
    seen = whole.context["seen"]
    assert browser.get(url_of(batch, f"?seen={seen}"), headers=HTMX).status_code == 204
    Batch.objects.filter(id=batch.id).update(waits_for="rate_limit", waits_until=timezone.now())
    assert "at most half of your requests" in page(browser, url_of(batch, f"?seen={seen}"), **HTMX)
    Batch.objects.filter(id=batch.id).update(status=BatchStatus.COMPLETED, completed_at=timezone.now())
    assert browser.get(url_of(batch, f"?seen={seen}"), headers=HTMX).headers["HX-Refresh"] == "true"


def test_what_failed_is_told_by_its_code_and_can_be_listed(browser, key):
    batch = a_batch(key, completed=1, failed=2)
    html = page(browser, url_of(batch))
    assert "<code>invalid_request</code>" in html
    failed = page(browser, url_of(batch, "?state=failed"))
    assert "request-2" in failed
    assert ">request-1<" not in failed.replace("<bdi>", "").replace("</bdi>", "")


def test_a_file_that_is_not_valid_is_shown_line_by_line(browser, key):
    problem = {"code": "invalid_request", "message": "temperature must be at most 2", "param": "body", "line": 17}
    batch = a_batch(key, status=BatchStatus.FAILED, errors=[problem], failed_at=timezone.now())
    html = page(browser, url_of(batch))
    assert "temperature must be at most 2" in html
    assert ">17<" in html


def test_requests_are_paged_in_their_order(browser, key):
    batch = a_batch(key, waiting=51)
    first = browser.get(url_of(batch))
    assert [item.position for item in first.context["items"]] == list(range(50))
    second = browser.get(url_of(batch, f"?{first.context['following']}"))
    assert [item.position for item in second.context["items"]] == [50]
    for odd in ("after=-1", "after=odd", "state=odd"):
        assert browser.get(url_of(batch, f"?{odd}")).status_code == 400


def test_a_request_shows_what_it_asked_and_was_answered(browser, key):
    batch = a_batch(key, completed=1, failed=1)
    BatchItem.objects.filter(position=0).update(custom_id="<script>")
    html = page(browser, url_of(batch, "/requests/0"))
    assert "What is a batch?" in html
    assert "choices" in html
    assert "&lt;script&gt;" in html
    assert "1 is refused." in page(browser, url_of(batch, "/requests/1"))
    page(browser, url_of(batch, "/requests/2"), 404)


def test_what_no_key_opens_any_more_is_told(browser, key):
    batch = a_batch(key, completed=1)
    BatchItem.objects.update(request=b"damaged")
    assert "can't be read" in page(browser, url_of(batch, "/requests/0"))
    assert reading.exchange(reading.item(batch, 0)) is None


def test_files_are_fetched_and_those_that_are_gone_say_so(browser, key):
    batch = a_batch(key, completed=1, output_file_id=rows.file(key, b'{"a": 1}\n', purpose=Purpose.BATCH_OUTPUT).id)
    answer = browser.get(url_of(batch, "/files/output"))
    assert answer.getvalue() == b'{"a": 1}\n'
    assert "attachment" in answer.headers["Content-Disposition"]
    for kind in ("errors", "odd"):
        assert browser.get(url_of(batch, f"/files/{kind}")).status_code == 404


def test_members_read_and_managers_cancel(browser, key, member):
    batch = a_batch(key, completed=1, waiting=1)
    reader = signed_in(member)
    assert "Cancel the batch" not in page(reader, url_of(batch))
    assert reader.post(url_of(batch, "/cancel")).status_code == 403
    assert reader.get("/dashboard/batches/new").status_code == 403
    assert "Cancel the batch" in page(browser, url_of(batch))
    assert browser.post(url_of(batch, "/cancel")).status_code == 302
    assert Batch.objects.get(id=batch.id).status == BatchStatus.CANCELLING
    ended = a_batch(key, completed=1)
    assert "cannot be cancelled" in browser.post(url_of(ended, "/cancel"), follow=True).content.decode()


def test_what_failed_is_tried_again_as_a_new_batch(browser, key):
    batch = a_batch(key, completed=1, failed=2)
    answer = browser.post(url_of(batch, "/retry"))
    again = Batch.objects.get(retry_of=batch)
    assert answer.headers["Location"] == url_of(again)
    assert again.public_id in page(browser, url_of(batch))
    assert batch.public_id in page(browser, url_of(again))
    whole = a_batch(key, completed=1)
    assert "None of this batch" in browser.post(url_of(whole, "/retry"), follow=True).content.decode()


def test_a_batch_whose_key_is_gone_is_not_retried_under_it(browser, key, owner):
    batch = a_batch(key, failed=1)
    api_keys.revoke(key=key, user=owner)
    assert "under another key" in browser.post(url_of(batch, "/retry"), follow=True).content.decode()
    assert not Batch.objects.filter(retry_of=batch).exists()


def test_lines_become_a_batch(browser, key):
    form = browser.get("/dashboard/batches/new").context["form"]
    sent = {
        "key": key.public_id,
        "operation": "/v1/chat/completions",
        "once": form.initial["once"],
        "lines": '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4", '
        '"messages": [{"role": "user", "content": "Hello"}]}}',
    }
    answer = browser.post("/dashboard/batches/new", sent)
    batch = Batch.objects.get()
    assert answer.headers["Location"] == url_of(batch)
    assert (batch.api_key, batch.status) == (key, BatchStatus.VALIDATING)
    assert browser.post("/dashboard/batches/new", sent).headers["Location"] == "/dashboard/batches"
    assert Batch.objects.count() == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"lines": ""}, "Choose a file"),
        ({"lines": "odd"}, "Line 1"),
        ({"key": "key_nobody"}, "can&#x27;t be used any more"),
        ({"operation": "/v1/odd"}, "not one of the available choices"),
    ],
)
def test_a_form_that_can_not_be_used_says_why(browser, key, changed, says):
    form = browser.get("/dashboard/batches/new").context["form"]
    sent = {
        "key": key.public_id,
        "operation": "/v1/chat/completions",
        "once": form.initial["once"],
        "lines": '{"custom_id": "a"}',
    }
    answer = browser.post("/dashboard/batches/new", sent | changed)
    assert answer.status_code == 200
    assert says.lower() in answer.content.decode().lower()
    assert not Batch.objects.exists()


def test_without_a_key_the_form_leads_to_one(browser, organization):
    assert "It needs an API key" in page(browser, "/dashboard/batches/new")


@pytest.mark.parametrize("rest", ["", "/requests/0", "/files/input"])
def test_a_batch_of_others_is_nobodys(key, outsider, rest):
    batch = a_batch(key, completed=1)
    assert signed_in(outsider).get(url_of(batch, rest)).status_code == 404
    assert Client().get(url_of(batch, rest)).status_code == 302


def test_many_batches_are_paged(browser, key):
    made = [a_batch(key) for _ in range(3)]
    Batch.objects.bulk_create(
        Batch(
            organization=key.organization,
            api_key=key,
            operation="/v1/chat/completions",
            status=BatchStatus.COMPLETED,
            input_file_id=made[0].input_file_id,
            sealed_key="-",
            expires_at=timezone.now(),
        )
        for _ in range(50)
    )
    first = browser.get("/dashboard/batches")
    second = browser.get(f"/dashboard/batches?{first.context['older']}")
    assert len(first.context["batches"]) + len(second.context["batches"]) == 53


def test_admins_may_run_them(key, member):
    Membership.objects.filter(user=member).update(role=Role.ADMIN)
    assert signed_in(member).get("/dashboard/batches/new").status_code == 200
