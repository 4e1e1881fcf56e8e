"""CIFAR's binary version, from folders and archives and over a local web server."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from attnsearch.core.errors import DataError, EnvironmentFault
from attnsearch.data import cifar, open_data, open_test

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


def record(kind: int, number: int, coarse: bytes = b"") -> bytes:
    """One image of the format: its class, then 1,024 red, 1,024 green and 1,024 blue bytes."""
    red, green = bytes([number]) * 1024, bytes(range(256)) * 4
    return coarse + bytes([kind]) + red + green + bytes([kind]) * 1024


def cifar10_files() -> dict[str, bytes]:
    """20 images in each of the six files; `number` tells them apart."""
    files = {
        f"data_batch_{i}.bin": b"".join(record(k % 10, 20 * i + k) for k in range(20)) for i in range(1, 6)
    }
    files["test_batch.bin"] = b"".join(record(k % 10, 200 + k) for k in range(20))
    files["batches.meta.txt"] = "\n".join([*CLASSES, "", ""]).encode()
    return files


def cifar100_files() -> dict[str, bytes]:
    images = [record(k % 100, k % 251, coarse=bytes([k % 20])) for k in range(300)]
    names = "\n".join(f"thing_{k}" for k in range(100)).encode()
    return {"train.bin": b"".join(images), "test.bin": b"".join(images[:100]), "fine_label_names.txt": names}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def check_cifar10(name: str) -> None:
    data, test = open_data(name), open_test(name)
    assert data.classes == tuple(CLASSES)
    assert data.image == (3, 32, 32)
    assert (len(data.train), len(data.val), len(test)) == (90, 10, 20)
    image = test.images[3]  # number 203, class 3
    assert test.labels[3] == 3
    assert (image[0] == 203).all()
    assert image[1, 0].tolist() == list(range(32))
    assert image[1, 1].tolist() == list(range(32, 64))
    assert (image[2] == 3).all()
    for split in (data.train, data.val):
        assert (split.images[:, 2, 0, 0] == split.labels).all()
    numbers = sorted(image[0, 0, 0] for split in (data.train, data.val) for image in split.images)
    assert numbers == list(range(20, 120))


def test_a_folder_of_binary_batches(tmp_path):
    check_cifar10(str(write(tmp_path / "anywhere", cifar10_files())))


def test_cifar10_is_found_in_the_data_folder(tmp_path):
    write(tmp_path / "work" / "data" / "cifar-10-batches-bin", cifar10_files())
    check_cifar10("cifar10")


def test_an_archive_in_the_working_folder_is_read_without_unpacking(tmp_path):
    work = tmp_path / "work"
    pack(work / "cifar-10-binary.tar.gz", cifar10_files())
    check_cifar10("cifar10")
    assert [path.name for path in work.iterdir()] == ["cifar-10-binary.tar.gz"]
    assert not list(tmp_path.rglob("*.bin"))


def test_cifar100_has_its_fine_classes(tmp_path):
    data = open_data(str(write(tmp_path / "c", cifar100_files())))
    assert data.classes[7] == "thing_7"
    assert (data.train.images[:, 2, 0, 0] == data.train.labels).all()
    assert set(data.counts["val"].values()) == {1}


def without(name: str) -> dict[str, bytes]:
    return {file: content for file, content in cifar10_files().items() if file != name}


FOLDER_MISTAKES = {
    "missing": (without("data_batch_3.bin"), "CIFAR's data_batch_3.bin is missing"),
    "short": (
        cifar10_files() | {"test_batch.bin": bytes(5000)},
        "5,000 bytes are not whole records of 3,073",
    ),
    "empty": (cifar10_files() | {"test_batch.bin": b""}, "0 bytes are not whole records"),
    "class": (
        cifar10_files() | {"test_batch.bin": record(10, 0)},
        r"class 10, but batches\.meta\.txt names 10",
    ),
    "pickled 10": (
        {"data_batch_1": b"\x80", "batches.meta": b"\x80"},
        "pickled, and a pickle can run any code",
    ),
    "pickled 100": ({"train": b"\x80", "test": b"\x80", "meta": b"\x80"}, "take the binary version"),
}


@pytest.mark.parametrize("mistake", FOLDER_MISTAKES)
def test_folder_mistakes_are_named(tmp_path, mistake):
    files, words = FOLDER_MISTAKES[mistake]
    with pytest.raises(DataError, match=words):
        open_data(str(write(tmp_path / "c", files)))


def test_archive_mistakes_are_named(tmp_path, monkeypatch):
    layout = cifar.LAYOUTS["cifar10"]
    path = pack(tmp_path / "a.tar.gz", without("test_batch.bin"))
    with pytest.raises(DataError, match=r"CIFAR's test_batch\.bin is missing"):
        cifar.read_archive(path, layout)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="not a readable archive"):
        cifar.read_archive(path, layout)
    path = pack(tmp_path / "b.tar.gz", cifar10_files() | {"bomb": bytes(2_000_000)})
    monkeypatch.setattr(cifar, "MEMBER_LIMIT", 1_000_000)
    with pytest.raises(DataError, match="larger than CIFAR"):
        cifar.read_archive(path, layout)


def test_links_and_foreign_members_of_an_archive_are_left_alone(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (cifar10_files() | {"../../evil": b"x"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("x/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert cifar.read_archive(path, cifar.LAYOUTS["cifar10"]) == cifar10_files()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on 127.0.0.1 in place of the author's site, with a small archive in it."""
    folder = tmp_path / "site"
    folder.mkdir()
    archive = pack(folder / "cifar-10-binary.tar.gz", cifar10_files())
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    content = archive.read_bytes()
    layout = replace(
        cifar.LAYOUTS["cifar10"],
        url=f"http://127.0.0.1:{site.server_port}/cifar-10-binary.tar.gz",
        md5=hashlib.md5(content).hexdigest(),
        size=len(content),
    )
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
    yield folder
    site.shutdown()
    site.server_close()


def test_cifar10_is_downloaded_once(server, own_cache):
    check_cifar10("cifar10")
    for path in server.iterdir():
        path.unlink()
    check_cifar10("cifar10")
    assert [path.name for path in (own_cache / "downloads").iterdir()] == ["cifar-10-binary.tar.gz"]


def test_a_download_with_another_checksum_is_not_kept(server, own_cache):
    path = server / "cifar-10-binary.tar.gz"
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DataError, match=r"checksum .* not "):
        open_data("cifar10")
    assert list((own_cache / "downloads").iterdir()) == []


def test_a_download_without_end_is_cut_off(server, own_cache):
    path = server / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"longer than the [0-9,]+ bytes"):
        open_data("cifar10")
    assert list((own_cache / "downloads").iterdir()) == []


def test_without_a_network_the_way_out_is_named(server, own_cache):
    (server / "cifar-10-binary.tar.gz").unlink()
    with pytest.raises(
        EnvironmentFault, match=r"cannot download http\S+ \(.*\); put cifar-10-binary.tar.gz into"
    ):
        open_data("cifar10")


def test_the_shipped_addresses_and_checksums_are_the_authors():
    """From https://www.cs.toronto.edu/~kriz/cifar.html."""
    assert cifar.LAYOUTS["cifar10"].md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert cifar.LAYOUTS["cifar100"].md5 == "03b5dce01913d631647c71ecec9e9cb8"
    assert all(
        layout.url.startswith("https://www.cs.toronto.edu/~kriz/") for layout in cifar.LAYOUTS.values()
    )
