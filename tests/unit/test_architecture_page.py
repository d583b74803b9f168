"""docs/architecture.md: the files that it names are there, and the passes run in its order."""

import re
from pathlib import Path

import pytest

from torsh_dialect.context import Context
from torsh_fx.pipeline import stages

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SECTIONS = re.split(r"^## ", PAGE, flags=re.M)[1:]


def named_files() -> list[tuple[str, str]]:
    """(folder of the section, name) of every file and folder that the page names."""
    found = dict[tuple[str, str], None]()
    for section in SECTIONS:
        title, _, body = section.partition("\n")
        folder = re.search(r"`(\w+)/`", title)
        for name in re.findall(r"`([\w./-]+(?:\.py|/))`", body):
            found[folder.group(1) if folder else "", name] = None
    return list(found)


@pytest.mark.parametrize(("folder", "name"), named_files())
def test_a_named_file_is_there(folder: str, name: str):
    """By its path in the repository, or in the folder that the section is about."""
    there = (ROOT / name).exists() or (folder and any((ROOT / folder).rglob(name.rstrip("/"))))
    assert there, f"{folder}/.../{name} is named by docs/architecture.md and is not there"


def test_the_page_names_files_of_every_part():
    assert {folder for folder, _ in named_files()} >= {"torsh_dialect", "torsh_fx", "lowering"}


def test_passes_stand_in_the_order_in_which_they_run():
    listed = PAGE[PAGE.index("Passes, in order:") :].partition("\n\n")[0]
    run = [stage.name for stage in stages(Context())]
    once = [name for name in dict.fromkeys(run) if name != "canonicalize"]
    places = [re.search(rf"(?<![\w-]){name}(?![\w-])", listed) for name in once]
    assert all(places), [name for name, place in zip(once, places, strict=True) if not place]
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    assert "canonicalize" in run
    assert "canonicalize" in listed
