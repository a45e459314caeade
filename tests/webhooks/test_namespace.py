"""Nothing that a URL, a redirect or a name server can do makes a call go inwards: not a packet is sent there.

Tried in a network namespace that has private and public addresses of its own; see ``namespace_world``.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests import tree
from tests.requirements import missing, require_program

Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    unshare = require_program("unshare")
    require_program("ip")
    allowed = subprocess.run([unshare, "-rn", "true"], capture_output=True, text=True, timeout=30, check=False)
    if allowed.returncode:
        missing(f"no network namespace can be made here: {allowed.stderr.strip()}")
    environment = {name: value for name, value in os.environ.items() if name not in tree.variables_read()}
    environment["DJANGO_SETTINGS_MODULE"] = "helixflow.settings"
    environment["HELIXFLOW_DATA_DIR"] = str(tmp_path_factory.mktemp("data"))
    done = subprocess.run(
        [unshare, "-rn", sys.executable, "-m", "tests.webhooks.namespace_world"],
        cwd=tree.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    parsed: Report = json.loads(done.stdout)
    return parsed


def test_the_listeners_and_the_counter_would_have_noticed(report: Report) -> None:
    """A plain client in the same namespace follows the redirect, reaches each listener, and its packets are counted."""
    assert report["controls"]["followed_redirects"] == 1
    assert report["controls"]["connections"] >= 1
    assert report["controls"]["packets"] >= 1


def test_no_packet_goes_to_an_address_that_is_not_public(report: Report) -> None:
    assert set(report["closed_packets"]) == {"93.184.216.34"}
    assert report["reached"] == {}


def test_the_development_setting_opens_loopback_and_nothing_else(report: Report) -> None:
    new = {
        address
        for address, packets in report["opened_packets"].items()
        if packets > report["closed_packets"].get(address, 0)
    }
    assert new == {"127.0.0.1"}


def test_every_address_that_leads_inwards_is_refused_by_form_and_call(report: Report) -> None:
    literals = [
        (url, said)
        for mode in ("closed", "opened")
        for url, said in report[mode].items()
        if url.startswith("http://") and ".example" not in url
    ]
    assert len(literals) > 100
    for url, said in literals:
        assert said == ["refused", "refused_address"], url


@pytest.mark.parametrize("mode", ["closed", "opened"])
def test_names_that_change_their_mind_are_judged_when_they_are_dialled(report: Report, mode: str) -> None:
    said = report[mode]
    for name in ("always-inwards", "mapped", "ipv6", "inwards-first"):
        assert said[f"http://{name}.example/"] == ["refused", "refused_address"]
    assert said["http://between-form-and-call.example/"] == ["fine", "refused_address"]
    assert said["http://within-the-call.example/"] == ["fine", "200"]
    assert said["http://good-first.example/"] == ["refused", "200"]
    assert [said[f"flipping {number}"] for number in range(20)] == [["200"], ["refused_address"]] * 10
    assert said["nothing at the first"] == ["connect"]


@pytest.mark.parametrize("mode", ["closed_redirects", "opened_redirects"])
def test_redirects_are_answers_and_lead_nowhere(report: Report, mode: str) -> None:
    assert len(report[mode]) == 30
    for url, (form, call) in report[mode].items():
        assert form == "fine"
        assert call == url.split("/")[3]
