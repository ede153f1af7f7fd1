"""The dashboard and the alerts use metrics and labels that exist, in queries that Prometheus accepts."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from erlmesh.log_events import EVENTS
from erlmesh.services.metrics.catalogue import METRICS
from skips import import_or_skip, skip_or_fail

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "prometheus" / "erlmesh.rules.yaml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "erlmesh.json").read_text())
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [rule["expr"] for rule in ALERTS] + [target["expr"] for panel in PANELS for target in panel["targets"]]
BY_SERIES = {metric.series: metric for metric in METRICS}
OF_SCRAPES = {"job", "instance"}


def series_of(metric):
    if metric.kind == "histogram":
        return {f"{metric.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
    return {metric.series}


def metric_of(name):
    return next((metric for metric in METRICS if name in series_of(metric)), None)


def names_in(query):
    return re.findall(r"\berlmesh_\w+", query)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_series_and_labels_that_exist(query):
    names = names_in(query)
    metrics = [metric_of(name) for name in names]
    assert None not in metrics, names

    labels = {"node", *OF_SCRAPES, *(label for metric in metrics for label in metric.labels)}
    labels |= {"le"} if any(metric.kind == "histogram" for metric in metrics) else set()
    used = {
        name for block in re.findall(r"\{([^}]*)\}", query) for name in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", block)
    }
    used |= {name for block in re.findall(r"\bby \(([^)]*)\)", query) for name in re.findall(r"\w+", block)}
    assert used <= labels


def test_the_labels_in_the_texts_exist():
    for rule in ALERTS:
        labels = {"node", *OF_SCRAPES, *(label for name in names_in(rule["expr"]) for label in metric_of(name).labels)}
        text = " ".join(rule["annotations"].values())
        assert {*re.findall(r"\$labels\.(\w+)", text)} <= labels, rule["alert"]
        assert {*re.findall(r"event `(\w+)`", text)} <= {*EVENTS}, rule["alert"]


def test_every_metric_is_on_the_dashboard():
    shown = {
        metric_of(name).name for panel in PANELS for target in panel["targets"] for name in names_in(target["expr"])
    }

    assert shown == {metric.name for metric in METRICS}


def test_the_dashboard_has_one_place_for_each_panel():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]

    assert len({*ids}) == len(ids)
    assert len({*places}) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(PANELS)
    assert {*re.findall(r"\$\{?(\w+)\}?", text)} - {"__rate_interval"} <= variables


@pytest.fixture
def promtool(tmp_path):
    """Runs promtool in a folder with the rules. Returns what it printed."""
    found = shutil.which("promtool") or shutil.which("promtool", path=ROOT / "build")
    if found is None:
        skip_or_fail("promtool is not installed: tools/promtool.sh fetches it")
    shutil.copy(RULES, tmp_path)

    def run(*arguments, stdin=None):
        done = subprocess.run(
            [found, *arguments], cwd=tmp_path, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_prometheus_accepts_the_rules(promtool):
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES.name)


def test_the_alerts_fire_when_they_should_and_not_before(promtool, tmp_path):
    shutil.copy(Path(__file__).parent / "erlmesh.rules.test.yaml", tmp_path)

    assert "SUCCESS" in promtool("test", "rules", "erlmesh.rules.test.yaml")


def test_prometheus_accepts_the_queries_of_the_dashboard(promtool, tmp_path):
    variables = {"$__rate_interval": "1m", "$node": ".*", "$job": "erlmesh"}
    rules = []
    for number, query in enumerate(QUERIES[len(ALERTS) :]):
        for name, value in variables.items():
            query = query.replace(name, value)  # noqa: PLW2901 - one after the other
        rules.append({"record": f"panel:{number}", "expr": query})
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", "panels.yaml")


def test_prometheus_accepts_the_page_of_a_node(promtool):
    prometheus_client = import_or_skip("prometheus_client")
    from erlmesh.testing.cluster import Cluster
    from erlmesh.testing.loop import run

    async def main():
        async with Cluster(1) as cluster:
            registry = prometheus_client.CollectorRegistry()
            a, b = await cluster.mesh(2)
            a.metrics(registry)
            await a.rpc(b.name, "erlmesh", "echo", [1])
            return prometheus_client.generate_latest(registry).decode()

    assert promtool("check", "metrics", stdin=run(main)) == ""
