"""The README and docs/: generated parts are fresh, links lead somewhere, samples run as written."""

from __future__ import annotations

import argparse
import re
import shlex
import statistics
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import docs as docs_tool
from docs_rows import newest, peers
from sdrt.command_line.main import _COMMANDS
from sdrt.command_line.options import parser_of
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.schedulers import SCHEDULERS
from sdrt_engines import Target
from sdrt_export.demo.grammar import COLOURS, POSITIONS, SHAPES, SIZES
from support.toy_bundle import write_toy_bundle

HOUSE = Path(__file__).parent.parent
README = HOUSE / "README.md"
PAGES = list(docs_tool.pages())
RAW = "https://raw.githubusercontent.com/sdrt/sdrt/main/"  # images, so that any site shows them
BLOB = "https://github.com/sdrt/sdrt/blob/main/"
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    page: Path
    line: int
    info: str  # "python", with what follows
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def fences(page: Path) -> Iterator[Fence]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w[^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Fence(page, text[: match.start()].count("\n") + 1, match[1], match[2])


PYTHON = [fence for page in PAGES for fence in fences(page) if fence.info.startswith("python")]


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of every command on a page, in fenced or indented blocks; comments left out."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside and line.removeprefix("```").startswith("sh")
        elif inside or line.startswith("    "):
            for command in line.split("&&"):
                if command.split()[:1] in (["sdrt"], ["pip"], ["make"]):
                    yield shlex.split(command, comments=True)


COMMANDS = [(page, words) for page in PAGES for words in shell_lines(page)]


# --- generated parts


@every_page
def test_generated_parts_are_fresh(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert docs_tool.refreshed(text) == text, "python tools/docs.py writes it again"


def test_every_generated_part_is_on_a_page() -> None:
    found = {name for page in PAGES for name in docs_tool.names_in(page.read_text("utf-8"))}
    assert found == docs_tool.BLOCKS.keys()


def test_a_part_is_replaced_and_the_rest_stays() -> None:
    text = "a\n<!-- generated: x -->\nold\n<!-- end of x -->\nb\n"
    fresh = docs_tool.refreshed(text, {"x": lambda: "new"})
    assert fresh == "a\n<!-- generated: x -->\n\nnew\n\n<!-- end of x -->\nb\n"
    assert docs_tool.refreshed(fresh, {"x": lambda: "new"}) == fresh


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- generated: y -->\n<!-- end of y -->", "'y' is unknown"),
        ("<!-- generated: x -->\n", "'x' has no end"),
        ("<!-- generated: x -->\n<!-- end of y -->", "'x' has no end"),
    ],
)
def test_a_broken_part_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        docs_tool.refreshed(text, {"x": lambda: "new"})


# --- the README


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


def test_the_readme_s_links_work_on_any_site() -> None:
    for image, url in re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", README.read_text(encoding="utf-8")):
        base = RAW if image else BLOB
        assert url.startswith("https://"), url
        if image or url.startswith(BLOB):
            assert url.startswith(base), url
            path, _, anchor = url.removeprefix(base).partition("#")
            assert (HOUSE / path).is_file(), url
            assert not anchor or anchor in anchors(HOUSE / path), url


def test_the_readme_counts_the_schedulers() -> None:
    assert f"[{len(SCHEDULERS)} of diffusers' schedulers]" in README.read_text(encoding="utf-8")


def test_the_readme_s_figures_have_rows() -> None:
    long, *_ = peers("sdrt openvino:bf16", "20 steps")
    peaks = [
        newest("memory")[f"{target}, 512×512, 1 image"]["median"]
        for target in ("openvino:bf16", "cpu")
    ]
    of_sd15, of_sdxl = (
        newest("export_full_size", model=model) for model in ("Stable Diffusion 1.5", "SDXL")
    )
    export = of_sd15["whole export, peak memory"]["median"]
    export_xl = of_sdxl["whole export, torch's own process, peak memory"]["median"]
    gpu = newest("gpu")["image 512², 50 steps, batch 1, sdrt cuda"]["median"]
    text = README.read_text(encoding="utf-8")
    assert f"{long['image']:.0f} s on two CPU cores" in text
    assert f"50 steps on an H100 take {gpu:.2f} s" in text
    assert (
        f"CPU {peaks[0]:.1f} (bfloat16) to {peaks[1]:.1f} GiB; the export {export:.1f} GiB" in text
    )
    assert f"of SDXL {export_xl:.1f} GiB" in text


def test_the_readme_s_range_of_ratios_has_rows() -> None:
    """A step, the median of paired rounds, and the whole image of 20 steps."""
    pairs = (("openvino", "f32"), ("openvino:bf16", "bf16"))
    found = []
    for target, precision in pairs:
        ours, theirs = (
            {row["round"]: statistics.median(row["steps"]) for row in peers(name, "4 steps")}
            for name in (f"sdrt {target}", f"OpenVINO GenAI {precision}")
        )
        found.append(statistics.median(ours[number] / theirs[number] for number in ours))
    (own,), (other,) = (
        peers(name, "20 steps") for name in ("sdrt openvino:bf16", "OpenVINO GenAI bf16")
    )
    found.append(own["image"] / other["image"])
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert f"take {min(found):.2f} to {max(found):.2f} of OpenVINO GenAI's time" in text


def test_the_readme_lists_the_demo_s_words() -> None:
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert f"{len(COLOURS)} colours ({', '.join(COLOURS)})" in text
    assert f"{len(SHAPES)} shapes ({', '.join(SHAPES)})" in text
    assert (
        "small, medium or large; in the centre, on the left, on the right, at the top or at" in text
    )
    assert (len(SIZES), len(POSITIONS)) == (3, 5)


def test_the_schedulers_without_zero_terminal_snr_are_named() -> None:
    text = (HOUSE / "docs" / "samplers.md").read_text(encoding="utf-8")
    sentence = re.search(r"In diffusers (.*?)have no such option", text, re.DOTALL)
    assert sentence
    assert re.findall(r"`(\w+)`", sentence[1]) == [
        name
        for name, scheduler in SCHEDULERS.items()
        if "rescale_betas_zero_snr" not in scheduler.options and "FlowMatch" not in name
    ]


def test_the_site_names_the_repository_once() -> None:
    site = (HOUSE / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"repo_url: {BLOB.removesuffix('/blob/main/')}\n" in site


# --- the site


@every_page
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    if page == README:
        return
    for url in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if url.startswith("https://"):
            path, base = url.removeprefix(BLOB), HOUSE
            if path == url:
                continue
        else:
            path, base = url, page.parent
        name, _, anchor = path.partition("#")
        target = base / name if name else page
        assert target.is_file(), url
        assert not anchor or anchor in anchors(target), url


def test_every_page_is_in_the_navigation() -> None:
    site = (HOUSE / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert page == README or f": {page.name}\n" in site, page.name


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them, and those written out."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
    return made | set(re.findall(r'<a id="([^"]+)"', text))


@every_page
def test_tables_have_as_many_cells_in_every_row(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(counts)) == 1, table


# --- samples


@pytest.mark.parametrize("fence", [each for each in PYTHON if "title=" in each.info], ids=str)
def test_quoted_source_is_as_it_is(fence: Fence) -> None:
    match = re.search(r'title="([^"]+)"', fence.info)
    assert match
    assert fence.code in (HOUSE / match[1]).read_text(encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which samples run: with a bundle, and the images that they name."""
    monkeypatch.chdir(tmp_path)
    write_toy_bundle(tmp_path / "bundle")
    for name in ("photo", "mask", "edges"):
        Image.new("RGB", (64, 64), "white").save(f"{name}.png")
    return tmp_path


@pytest.mark.usefixtures("desk")
@every_page
def test_python_samples_run(page: Path) -> None:
    """A page's samples share their names, from the top down."""
    shared = ModuleType("sample").__dict__
    for fence in fences(page):
        if fence.info == "python":
            exec(compile("\n" * fence.line + fence.code, str(page), "exec"), shared)


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page.name}: {' '.join(w)[:50]}" for page, w in COMMANDS]
)
def test_commands_are_what_they_name(page: Path, words: list[str]) -> None:
    program, *rest = words
    if program == "sdrt":
        check_options(parser_of(dict.fromkeys(_COMMANDS, lambda options: None)).parse_args(rest))
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (HOUSE / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert set(rest) <= {*targets}
    for extra in re.findall(r"\[([\w-]+)\]", " ".join(rest if program == "pip" else [])):
        assert extra in PROJECT["optional-dependencies"]


def check_options(options: argparse.Namespace) -> None:
    """Raises for a target or a scheduler that does not exist; the parser takes any."""
    given = [getattr(options, "target", None), *getattr(options, "targets", [])]
    for target in given:
        if target not in (None, "auto", "…"):
            Target.parse(target)
    scheduler = getattr(options, "scheduler", None)
    if scheduler is not None:
        SamplerConfig("DDIMScheduler").renamed(scheduler)


@pytest.mark.parametrize("name", PROJECT["optional-dependencies"])
def test_every_extra_is_explained(name: str) -> None:
    assert f"| `{name}` |" in (HOUSE / "docs" / "getting-started.md").read_text(encoding="utf-8")
