"""The playground in a browser, against the whole of HelixFlow with its real embedded model."""

import os
import subprocess
import uuid

import pytest
from playwright.sync_api import Page, Route, expect

from tests.requirements import require_program
from tests.stack import Stack

PASSWORD = "correct horse 42"
ANSWER_MS = 60_000  # on a busy machine


@pytest.fixture
def playground(page: Page, stack: Stack) -> Page:
    """Of somebody new, whose answers are short."""
    page.goto(f"{stack.url}/signup")
    page.fill("[name=email]", f"{uuid.uuid4().hex}@example.com")
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url("**/dashboard")
    page.goto(f"{stack.url}/dashboard/playground?model=smollm2-135m-instruct")
    page.get_by_label("Max. tokens").fill("12")
    return page


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Your message").fill(text)
    page.get_by_role("textbox", name="Your message").press("Control+Enter")


def answers(page: Page):
    return page.locator(".said--model")


def answered(page: Page, count: int = 1) -> None:
    expect(page.locator('.said--model[aria-busy="false"]')).to_have_count(count, timeout=ANSWER_MS)


def test_it_streams_says_what_that_took_and_is_still_there_after_a_reload(playground: Page):
    say(playground, "Say <b>hello</b>.")
    answered(playground)
    expect(playground.locator(".said--user")).to_contain_text("Say <b>hello</b>.")
    facts = answers(playground).locator("footer")
    expect(facts).to_contain_text("tokens/s")
    expect(facts).to_contain_text("s to first token")
    expect(facts).to_contain_text("USD", timeout=20_000)  # once the ledger knows; another test may have set a price
    assert facts.get_by_role("link", name="Receipt").get_attribute("href").startswith("/dashboard/requests/req_")
    text = answers(playground).locator(".said__body").inner_text()
    assert text
    expect(playground.locator("[data-spoken]")).to_contain_text("has answered")
    playground.get_by_role("textbox", name="Your message").fill("A draft")
    playground.reload()
    assert answers(playground).locator(".said__body").inner_text() == text
    expect(playground.get_by_role("textbox", name="Your message")).to_have_value("A draft")
    expect(playground.get_by_label("Max. tokens")).to_have_value("12")


def test_logging_out_leaves_nothing_of_it_in_the_browser(playground: Page):
    playground.get_by_role("textbox", name="Your message").fill("A secret draft")
    kept = "() => Object.keys(localStorage).filter((key) => key.startsWith('playground:')).length"
    playground.reload()  # it is saved then at the latest
    assert playground.evaluate(kept) == 1
    playground.locator('form[action="/logout"] button').first.click()
    playground.wait_for_url(lambda url: "/dashboard" not in url)
    assert playground.evaluate(kept) == 0


def test_an_answer_is_stopped_and_asked_for_again(playground: Page):
    playground.get_by_label("Max. tokens").fill("400")
    say(playground, "Tell me a long story about rivers.")
    expect(answers(playground).locator(".said__text")).not_to_be_empty(timeout=ANSWER_MS)
    playground.keyboard.press("Escape")
    expect(answers(playground)).to_contain_text("Stopped")
    playground.get_by_label("Max. tokens").fill("12")
    answers(playground).get_by_role("button", name="Answer again").click()
    expect(answers(playground)).to_contain_text("Cut at max. tokens", timeout=ANSWER_MS)
    playground.get_by_role("button", name="Undo").click()
    expect(answers(playground)).to_contain_text("Stopped")


def test_messages_are_edited_deleted_and_cleared_and_come_back(playground: Page):
    say(playground, "First")
    answered(playground)
    playground.get_by_role("button", name="Edit your message").click()
    editor = playground.get_by_label("Text of the message")
    assert editor.evaluate("(area) => area.offsetHeight") > 40
    editor.fill("Second")
    playground.get_by_role("button", name="Save").click()
    expect(playground.locator(".said--user")).to_contain_text("Second")
    playground.get_by_role("button", name="Delete the answer").click()
    expect(answers(playground)).to_have_count(0)
    playground.get_by_role("button", name="Clear").click()
    playground.get_by_role("dialog").get_by_role("button", name="Clear").click()
    expect(playground.get_by_text("Say something")).to_be_visible()
    playground.get_by_role("button", name="Undo").click()
    expect(playground.locator(".said--user")).to_contain_text("Second")


def test_two_models_answer_side_by_side(playground: Page):
    playground.get_by_label("Compare two").check()
    playground.get_by_label("Second model").select_option("gpt-4")
    say(playground, "Hello")
    answered(playground, 2)
    models = answers(playground).locator(".said__who").all_inner_texts()
    assert models == ["smollm2-135m-instruct", "gpt-4"]


def test_the_newest_answer_is_in_sight_above_the_editor(playground: Page):
    playground.set_viewport_size({"width": 1280, "height": 600})
    for count in range(1, 5):
        say(playground, f"Name river number {count}.")
        answered(playground, count)
    end = answers(playground).last.bounding_box()
    editor = playground.locator("[data-composer]").bounding_box()
    assert end
    assert editor
    assert end["y"] + end["height"] <= editor["y"]


def test_what_the_api_refuses_is_shown_by_its_field(playground: Page, console_errors: list[str]):
    playground.get_by_label("Temperature").fill("3")
    say(playground, "Hello")
    expect(answers(playground).get_by_role("alert").or_(answers(playground).locator(".alert"))).to_contain_text(
        "temperature"
    )
    expect(playground.get_by_label("Temperature")).to_have_attribute("aria-invalid", "true")
    playground.get_by_label("Temperature").fill("1")
    answers(playground).get_by_role("button", name="Try again").click()
    expect(answers(playground).locator("footer")).to_contain_text("tokens/s", timeout=ANSWER_MS)
    console_errors.clear()  # the browser's own word on a 400


@pytest.mark.parametrize(
    ("status", "code", "says", "leads"),
    [
        (429, "rate_limit_exceeded", "Again in", None),
        (429, "insufficient_quota", "no luck", "/dashboard/plan"),
        (401, "authentication_failed", "no luck", "/login?next=%2Fdashboard%2Fplayground"),
        (503, "service_unavailable", "Again in", None),
    ],
)
def test_a_refusal_says_what_to_do_and_loses_nothing(
    playground: Page, console_errors: list[str], status: int, code: str, says: str, leads: str | None
):
    def refuse(route: Route) -> None:
        headers = {"Retry-After": "20"} if says == "Again in" else {}
        route.fulfill(
            status=status, headers=headers, json={"error": {"code": code, "message": "no luck", "param": None}}
        )

    playground.route("**/playground/completions", refuse)
    say(playground, "Precious words")
    box = answers(playground).locator(".alert")
    expect(box).to_contain_text(says)
    if leads:
        assert box.get_by_role("link").get_attribute("href") == leads
    else:
        expect(box.get_by_role("button", name="Try again")).to_be_disabled()
    expect(playground.locator(".said--user")).to_contain_text("Precious words")
    expect(answers(playground).get_by_role("link", name="Receipt")).to_have_count(0)
    console_errors.clear()


def test_the_code_it_shows_runs_as_printed(playground: Page, stack: Stack, context):
    require_program("curl")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    playground.get_by_label("System prompt").fill('You\'re `terse`,\n"quoted" and \\ $HOME.')
    say(playground, "It's 'me' \U0001f30a")
    answered(playground)
    answers(playground).get_by_role("button", name="View the code of this request").click()
    block = playground.locator("#playground-program")
    block.get_by_role("tab", name="curl").click()
    block.get_by_role("button", name="Copy the code").click()
    expect(block.get_by_text("Copied")).to_be_visible()
    command = str(playground.evaluate("navigator.clipboard.readText()"))
    done = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"HELIXFLOW_API_KEY": stack.api_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("data: [DONE]")
    programs = {
        name: str(block.locator(f'[data-program="{name}"]').text_content()) for name in ("python", "javascript", "go")
    }
    compile(programs["python"], "shown.py", "exec")
    assert "You're `terse`" in programs["javascript"]
    assert '` + "`" + `' in programs["go"]
