"""Files out of pinned packages: fetched only when asked, checked, stored in one step; no network here."""

import hashlib
import io
import os
import tarfile
import zipfile

import pytest

from harness.cli import main
from harness.errors import SpecError, UsageError
from harness.spec import assets, fetching, stored
from harness.spec.file import read_spec
from harness.spec.model_spec import PackageMember
from tests.helpers.models import SPEC, write_example

CONTENT = b"weights"


def member_of(package="thing==1.0", member="thing/model.onnx", content=CONTENT):
    """A package member with the sha256 of `content`."""
    return PackageMember(package=package, member=member, sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def downloads(monkeypatch):
    """Packages that can be had, as member contents by name; the list of those that were asked for."""
    packages = {"thing==1.0": {"thing/model.onnx": CONTENT, "thing/b.txt": b"b"}}
    packages["npm:@org/thing@1.0"] = {"package/data/model.onnx": CONTENT}
    asked = []

    def run(package, command, _):
        asked.append(package)
        folder = next(arg.partition("=")[2] for arg in command if arg.startswith("--") and "dest" in arg)
        if package.startswith("npm:"):
            write_tar(os.path.join(folder, "thing-1.0.tgz"), packages[package])
        else:
            write_wheel(os.path.join(folder, "thing-1.0-py3-none-any.whl"), packages[package])

    monkeypatch.setattr(fetching, "_run", run)
    monkeypatch.setattr(fetching.start, "tool", lambda name: name)
    return asked


def write_wheel(path, members):
    """A zip archive of `members`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_tar(path, members):
    """A gzipped tar archive of `members`."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_a_package_is_downloaded_once_for_all_its_members(tmp_path, downloads):
    wanted = [member_of(), member_of(member="thing/b.txt", content=b"b")]
    said = []
    assert fetching.fetch_members(wanted, tmp_path, said.append) == 2
    assert downloads == ["thing==1.0"]
    assert said == ["fetching thing==1.0 (2 files)"]
    assert stored.stored_path(wanted[0], tmp_path).read_bytes() == CONTENT
    assert fetching.fetch_members(wanted, tmp_path) == 0
    assert downloads == ["thing==1.0"]


def test_npm_packages(tmp_path, downloads):
    wanted = member_of("npm:@org/thing@1.0", "package/data/model.onnx")
    assert fetching.fetch_members([wanted], tmp_path) == 1
    assert stored.stored_path(wanted, tmp_path).read_bytes() == CONTENT
    assert downloads == ["npm:@org/thing@1.0"]


@pytest.mark.usefixtures("downloads")
def test_a_wrong_sha256_stores_nothing(tmp_path):
    wanted = member_of(content=b"other")
    with pytest.raises(UsageError, match=r"sha256 is .*, must be"):
        fetching.fetch_members([wanted], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("downloads")
def test_a_member_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="has no member 'thing/absent'"):
        fetching.fetch_members([member_of(member="thing/absent")], tmp_path)


@pytest.mark.usefixtures("downloads")
def test_a_member_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_MEMBER_BYTES", 3)
    with pytest.raises(UsageError, match="larger than 3 bytes"):
        fetching.fetch_members([member_of()], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("downloads")
def test_a_damaged_file_is_fetched_again(tmp_path):
    wanted = member_of()
    fetching.fetch_members([wanted], tmp_path)
    stored.stored_path(wanted, tmp_path).write_bytes(b"damaged!")
    assert fetching.fetch_members([wanted], tmp_path) == 1
    assert stored.stored_path(wanted, tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("downloads")
def test_a_damaged_file_is_not_used(tmp_path):
    spec = packaged_spec(tmp_path)
    path = assets.model_path(spec, fetch=True, folder=tmp_path / "assets")
    assert path.read_bytes() == CONTENT
    path.write_bytes(b"damaged!")
    with pytest.raises(SpecError, match=r"model\.sha256 = .*: the fetched file is damaged"):
        assets.model_path(spec, folder=tmp_path / "assets")


def test_nothing_is_fetched_unless_asked(tmp_path, downloads):
    spec = packaged_spec(tmp_path)
    assert assets.missing(spec, folder=tmp_path / "assets") == ("model", "assets.other")
    with pytest.raises(UsageError, match="is not fetched; run: trt-harness fetch"):
        assets.asset_paths(spec, folder=tmp_path / "assets")
    assert downloads == []


@pytest.mark.usefixtures("downloads")
def test_the_command_fetches_what_specs_need(tmp_path, capsys):
    spec = packaged_spec(tmp_path)
    assert main(["fetch", str(spec.path), "--dir", str(tmp_path / "cache")]) == 0
    assert "2 files of 1 specs" in capsys.readouterr().out
    assert assets.missing(spec, folder=tmp_path / "cache" / "assets") == ()


def test_the_folder_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.setenv(stored.CACHE_VARIABLE, str(tmp_path))
    assert stored.assets_folder() == tmp_path / "assets"


def test_what_pip_says_is_one_line(tmp_path, monkeypatch):
    def offline(command, **_):
        said = "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution\nnotice\n"
        return fetching.subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(fetching.subprocess, "run", offline)
    with pytest.raises(UsageError) as caught:
        fetching.fetch_members([member_of()], tmp_path)
    assert str(caught.value) == "thing==1.0: pip could not fetch it: ERROR: No matching distribution"


def test_npm_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.start, "tool", lambda _: None)
    with pytest.raises(UsageError, match="needs npm, which is not installed"):
        fetching.fetch_members([member_of("npm:thing@1.0")], tmp_path)


def packaged_spec(folder):
    """A spec whose model and whose one asset are in a package."""
    one, other = member_of(), member_of(member="thing/b.txt", content=b"b")
    model = f'package = "{one.package}"\nmember = "{one.member}"\nsha256 = "{one.sha256}"'
    asset = f'package = "{other.package}"\nmember = "{other.member}"\nsha256 = "{other.sha256}"'
    text = SPEC.replace('onnx = "model.onnx"', model) + f"[assets.other]\n{asset}\n"
    return read_spec(write_example(folder, text))
