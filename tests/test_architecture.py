"""No module imports a higher layer, and modules below the waterline import only pure modules."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

# Lowest floor first. A module may import its own folder's modules (without cycles) and any floor before its own.
FLOORS = [
    ["erlmesh.version", "erlmesh.native", "erlmesh.records", "erlmesh.collector"],
    ["erlmesh.errors", "erlmesh.terms", "erlmesh.formatting", "erlmesh.etf"],
    ["erlmesh.typed"],
    ["erlmesh.proto"],
    ["erlmesh.core"],
    ["erlmesh.net"],
    ["erlmesh.runtime"],
    ["erlmesh.services"],
    ["erlmesh.web"],
    ["erlmesh.sync"],
    ["erlmesh.node"],
    ["erlmesh.behaviours"],
    ["erlmesh.gen_stage"],
    ["erlmesh.phoenix"],
    ["erlmesh.servings"],
    ["erlmesh.otp_functions", "erlmesh.sharding", "erlmesh.json_log", "erlmesh.log_events"],
    ["erlmesh.testing"],
    ["erlmesh"],
    ["erlmesh.shell", "erlmesh.demo", "erlmesh.doctor", "erlmesh.discovery", "erlmesh.certs"],
    ["erlmesh.cli"],
    ["erlmesh.__main__"],
]
WATERLINE = 5  # floors below this index are pure
PURE_IMPORTS = {
    "__future__", "abc", "array", "base64", "bisect", "collections", "contextlib", "dataclasses", "datetime", "decimal",
    "enum", "functools",
    "hashlib", "heapq", "hmac", "ipaddress", "itertools", "math", "operator", "re", "reprlib", "struct", "threading",
    "types", "typing", "unicodedata", "weakref", "zlib", "random", "zoneinfo",
    "msgspec",
}  # fmt: skip
# It reads ERLMESH_PURE and imports erlmesh_native, once for the process. Its result never changes.
# The collector is off during a call and as before after it. No result depends on that.
IMPURE = {"erlmesh.native": {"importlib", "os", "warnings"}, "erlmesh.collector": {"gc"}}


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SRC.rglob("*.py")}


def floor(module: str) -> int:
    best = max(
        ((len(prefix), index) for index, floor in enumerate(FLOORS) for prefix in floor
         if module == prefix or (module.startswith(prefix + ".") and prefix != "erlmesh")),
        default=None,
    )  # fmt: skip
    assert best is not None, f"{module} stands on no floor: give it one in FLOORS"
    return best[1]


def imports(path: Path):
    """All imports of a module, also those only for type checkers, because a reader follows those too."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                base = child.module or ""
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    yield full if full in MODULES else base
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


GRAPH = {module: sorted(set(imports(path))) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_imports_a_higher_layer(module):
    for imported in GRAPH[module]:
        if imported.split(".")[0] == "erlmesh":
            assert floor(imported) <= floor(module), f"{module} must not import {imported}: that arrow points up"


@pytest.mark.parametrize("module", [module for module in sorted(MODULES) if floor(module) < WATERLINE])
def test_modules_below_the_waterline_import_only_pure_modules(module):
    for imported in GRAPH[module]:
        root = imported.split(".")[0]
        assert root == "erlmesh" or root in PURE_IMPORTS | IMPURE.get(module, set()), (
            f"{module} is below the waterline and imports {imported}"
        )


def test_there_is_no_import_cycle():
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, f"import cycle: {' → '.join([*trail[trail.index(module) :], module])}"
        if module in done or module not in GRAPH:
            return
        for imported in GRAPH[module]:
            if imported != module:
                visit(imported, [*trail, module])
        done.add(module)

    for module in sorted(MODULES):
        visit(module, [])


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_in_a_page_exists(page):
    root = SRC.parent
    paths = re.findall(r"`((?:[\w.]+/)+[\w.]*|\w+\.py)`", (root / page).read_text())

    assert paths
    assert [path for path in paths if not (root / path).exists() and not (SRC / "erlmesh" / path).exists()] == []
