"""The configuration is believed only where no other user can have written it (config.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeport_nft.config import Config, ConfigError, load_config
from tests.cli.program import Program
from tests.security.others import NOBODY, as_nobody, common_place, give


@pytest.fixture
def place() -> Iterator[Path]:
    with common_place() as made:
        yield made


def written(path: Path, mode: int = 0o644, owner: int = 0) -> Path:
    path.write_text("masqueradeBit: 3\nstore: /srv/another.db\n")
    return give(path, mode, owner)


def in_directory(mode: int, owner: int = 0) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        directory = place / "etc"
        directory.mkdir()
        path = written(directory / "config.yaml")
        give(directory, mode, owner)
        return path

    return make


def linked(to: Callable[[Path], Path], owner: int = 0) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        target, hall = to(place), place / "hall"
        hall.mkdir()
        (hall / "link.yaml").symlink_to(target)
        give(hall / "link.yaml", 0, owner)
        give(hall, 0o1777 if owner else 0o755)
        return hall / "link.yaml"

    return make


def own(mode: int, owner: int = 0) -> Callable[[Path], Path]:
    return lambda place: written(place / "config.yaml", mode, owner)


REFUSED = {
    "a directory for all": (in_directory(0o777), "others than its owner may write to {0}/etc; chmod go-w {0}/etc"),
    "a directory for its group": (in_directory(0o775), "others than its owner may write to {0}/etc; chmod go-w"),
    "a directory of nobody's": (in_directory(0o755, NOBODY), "{0}/etc belongs to user 65534, who may put anything"),
    "a link into one for all": (linked(in_directory(0o777)), "others than its owner may write to {0}/etc; chmod"),
    "nobody's link": (linked(own(0o644), NOBODY), "belongs to user 65534"),
    "nobody's file": (
        own(0o600, NOBODY),
        "belongs to user 65534, who may put anything there; chown 0 {0}/config.yaml",
    ),
    "a file for all": (own(0o646), "others than its owner may write to {0}/config.yaml; chmod go-w {0}/config.yaml"),
    "a file for its group": (own(0o664), "others than its owner may write to {0}/config.yaml; chmod go-w"),
}


@pytest.mark.parametrize("way", REFUSED)
def test_one_that_another_user_can_have_written_is_refused(place: Path, way: str) -> None:
    make, words = REFUSED[way]
    path = make(place)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {"masqueradeBit": 99})
    first, second = str(caught.value).splitlines()  # with all problems, as ever; nothing in it is looked at
    assert first.startswith(f"{path}: ")
    assert words.format(place).removeprefix(f"{path} ") in first
    assert second.startswith("--masquerade-bit: 99 is not a bit")


@pytest.mark.parametrize(
    "make",
    [own(0o644), own(0o600), own(0o444), in_directory(0o700), in_directory(0o1755), linked(own(0o644))],
    ids=["644", "600", "444", "in 700", "in 1755", "a link of root's"],
)
def test_one_of_roots_is_read(place: Path, make: Callable[[Path], Path]) -> None:
    assert load_config(str(make(place)), {}).masquerade_bit == 3


def test_in_a_directory_such_as_tmp_it_is_its_owners(place: Path) -> None:
    """Nobody else can replace it there, once it is there."""
    path = in_directory(0o1777)(place)
    assert load_config(str(path), {}).masquerade_bit == 3
    path.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        load_config(str(path), {})


def test_another_user_may_have_his_own(place: Path) -> None:
    path = in_directory(0o755, NOBODY)(place)
    give(path, 0o644, NOBODY)
    roots = written(place / "roots.yaml")
    assert as_nobody(lambda: [load_config(str(each), {}).masquerade_bit for each in (path, roots)]) == [3, 3]


def test_it_is_looked_at_each_time_it_is_read(place: Path) -> None:
    """As the daemon does, which then goes on with what it has read before (daemon/configuration.py)."""
    path = own(0o644)(place)
    assert load_config(str(path), {}) != Config()
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod go-w"):
        load_config(str(path), {})
    path.chmod(0o644)
    assert load_config(str(path), {}) != Config()


def test_the_program_says_what_to_do(place: Path) -> None:
    program = Program(place)
    config = own(0o666)(place)
    answer = program.run("get", "services", "--config", str(config))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: {config}: others than its owner may write to {config}; chmod go-w {config}\n"
