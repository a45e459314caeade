"""What a newcomer does: sign up, make a key, copy it, run the snippet beside it, and in the end revoke the key.

Against the whole of HelixFlow with its real embedded model; the snippets run exactly as the page has them copied.
"""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page

from tests import golang
from tests.requirements import require_node_package, require_program
from tests.stack import Stack

PASSWORD = "correct horse 42"
KEYS = "/dashboard/api-keys"


def sign_up(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/signup")
    page.fill("[name=email]", f"{uuid.uuid4().hex}@example.com")
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url("**/dashboard")


def create_key(page: Page, stack: Stack, name: str) -> str:
    page.goto(f"{stack.url}{KEYS}/new")
    page.fill("[name=name]", name)
    page.click("main button[type=submit]")
    return page.inner_text("#api-key")


def copied(page: Page, button: str) -> str:
    page.click(button)
    page.wait_for_selector(f"{button}[data-done]")
    return str(page.evaluate("navigator.clipboard.readText()"))


@pytest.fixture(scope="module")
def snippets(browser: Browser, stack: Stack) -> dict[str, str]:
    """The first call in each language, by way of the clipboard."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    sign_up(page, stack)
    secret = create_key(page, stack, "First call")
    assert copied(page, ".secret .copy") == secret
    found = {}
    for language in ("curl", "python", "javascript", "go"):
        page.click(f"#first-call-{language}-tab")
        page.wait_for_selector("#first-call .copy:not([data-done])")
        found[language] = copied(page, "#first-call .copy")
        assert secret in found[language]
        assert stack.base_url in found[language]
    context.close()
    return found


def output_of(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_command_answers_streaming(snippets, tmp_path):
    require_program("curl")
    output = output_of("sh", "-c", snippets["curl"], folder=tmp_path)
    frames = [line for line in output.splitlines() if line]
    assert len(frames) > 2
    assert all(frame.startswith("data: ") for frame in frames)
    assert frames[-1] == "data: [DONE]"


def test_the_python_program_answers(snippets, tmp_path):
    (tmp_path / "hello.py").write_text(snippets["python"])
    assert output_of(sys.executable, "hello.py", folder=tmp_path).strip()


def test_the_javascript_program_answers(snippets, tmp_path):
    modules = require_node_package("openai") / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "hello.mjs").write_text(snippets["javascript"])
    assert output_of(require_program("node"), "hello.mjs", folder=tmp_path).strip()


def test_the_go_program_answers(snippets, tmp_path):
    (tmp_path / "hello.go").write_text(snippets["go"])
    assert golang.go("run", "hello.go", folder=tmp_path).strip()


def test_a_secret_is_gone_after_a_reload_and_no_second_key_appears(page, stack):
    sign_up(page, stack)
    secret = create_key(page, stack, "Once")
    page.reload()
    page.wait_for_url(f"**{KEYS}")
    assert secret not in page.content()
    assert page.locator("main tbody tr").count() == 1


def test_a_revoked_key_is_refused_on_the_next_request(page, stack):
    sign_up(page, stack)
    headers = {"Authorization": f"Bearer {create_key(page, stack, 'Short-lived')}"}

    def statuses() -> set[int]:
        """Of several connections, so that every web process is asked."""
        return {requests.get(f"{stack.base_url}/models", headers=headers, timeout=10).status_code for _ in range(12)}

    assert statuses() == {200}
    page.goto(f"{stack.url}{KEYS}")
    page.click("text=Revoke")
    assert "Short-lived" in page.inner_text("h1")
    page.click("main button[type=submit]")
    page.wait_for_url(f"**{KEYS}")
    assert statuses() == {401}


def test_script_in_a_name_is_inert(page, stack):
    sign_up(page, stack)
    page.on("dialog", lambda dialog: pytest.fail("the name ran as a script"))
    name = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    create_key(page, stack, name)
    page.goto(f"{stack.url}{KEYS}")
    assert page.inner_text("main tbody a") == name
    page.click("main tbody a")
    assert page.inner_text("h1") == name
