"""The daemon's page in a browser: Debian's Chromium, on a node of the lab, where it can reach nothing else."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from lab.browser import PROGRAM, Browser
from lab.cluster import Cluster
from lab.namespaces import LabError
from lab.probe import connect_many
from tests.daemon.objects import Desired, endpoint_slice, service
from tests.daemon.running import Daemon, wait_for

pytestmark = pytest.mark.proves("U5")

SITE = "http://127.0.0.1:10249"
PODS = ("web-1", "web-2", "web-3")


@pytest.fixture
def browser(cluster: Cluster, tmp_path: Path) -> Browser:
    if shutil.which(PROGRAM) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must look at the page: {PROGRAM} is missing; `make test` installs it")
        pytest.skip(f"{PROGRAM} is not installed")
    with cluster.host("worker-1").namespace.entered():
        return Browser(tmp_path / "browser")


def test_a_browser_shows_the_page_and_finds_nothing_wrong(
    cluster: Cluster, desired: Desired, daemon: Daemon, browser: Browser
) -> None:
    found = [{"addresses": [str(cluster.address(pod))], "nodeName": cluster.host(pod).node} for pod in PODS]
    note = {"nodeport-nft/hostile": "<script>document.title = 'taken over'</script>"}
    web = service("web", 10)
    web["metadata"]["annotations"] = note
    desired.apply(web, endpoint_slice("web", "web-4", 4, 8080, found), service("idle", 11))
    daemon.start("--status-page")
    with browser:
        browser.open(f"{SITE}/")
        assert [line.split()[:2] for line in _rows(browser)] == [["default", "idle"], ["default", "web"]]
        assert "none" in _rows(browser)[0]
        browser.do("document.querySelector('tbody a[href$=web]').click()")
        assert "Service default/web" in browser.text()
        assert len(_rows(browser)) == 3

        def counted() -> bool:
            connect_many(cluster, "client", (str(cluster.address("worker-1")), 30010), "TCP", 30)
            time.sleep(1.1)  # a rate is of a second at least
            browser.open(f"{SITE}/services/default/web")
            return all(float(row.split()[-1]) > 0 for row in _rows(browser) if row.split()[-1] != "…")

        wait_for(counted, "a rate of each endpoint")
        assert browser.value("document.querySelectorAll('svg .endpoint').length") == 3
        assert browser.value("getComputedStyle(document.querySelector('svg .edge')).fill") == "none", "no style"
        _no_wider_than_a_phone(browser)
        browser.open(f"{SITE}/trace")
        for field, text in (("from", "192.0.2.7"), ("to", "172.30.1.2"), ("port", "30010")):
            browser.value(f"document.getElementById('{field}').value = '{text}'")
        browser.do("document.querySelector('form button').click()")
        assert [row.split("\t")[1] for row in _rows(browser)[:3]] == ["forwarded"] * 3
        assert browser.complaints == []
        assert browser.requests
        assert {address for address in browser.requests if not address.startswith(f"{SITE}/")} == set()
        _complains_of_what_is_forbidden(browser)
    assert daemon.stop() == 0
    assert not [event for event in daemon.events() if event.get("level") == "error"]


def _rows(browser: Browser) -> list[str]:
    return [str(row) for row in browser.value("[...document.querySelectorAll('tbody tr')].map(row => row.innerText)")]


def _no_wider_than_a_phone(browser: Browser) -> None:
    """Nothing but a table or a drawing has to be moved sideways; dark where that is wanted."""
    grounds = set()
    for dark in (False, True):
        browser.resize(390, 800, dark=dark)
        assert browser.value("document.documentElement.scrollWidth") <= 390
        grounds.add(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    browser.resize(1200, 800)


def _complains_of_what_is_forbidden(browser: Browser) -> None:
    """What was found right would have been found wrong: a script and a picture from elsewhere are tried."""
    browser.value("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=1'}))")
    browser.value("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x.png'}))")
    wait_for(lambda: browser.value("1") and len(browser.complaints) >= 2, "what the policy forbids is told")
    assert all("Content Security Policy" in complaint for complaint in browser.complaints)
    assert browser.value("document.title") != "1"


def test_without_the_setting_there_is_no_page(desired: Desired, daemon: Daemon) -> None:
    desired.apply(service("web", 10))
    daemon.start()
    assert daemon.ask("/") == "there are /metrics, /status, /healthz\n"


def test_a_browser_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lab.browser.PROGRAM", "false")
    with pytest.raises(LabError, match="is it installed"):
        Browser(tmp_path)
