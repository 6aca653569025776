"""Images of the docker engine: what decides their tags, what the builder gets, and what a person sees of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from labkit.errors import StackError
from labkit.lab.docker_container import image_recipe
from labkit.lab.images import (
    CA_BUNDLE_PATH,
    DEFAULT_BASE_IMAGE,
    IMAGE_LABEL,
    STAGE_LABEL,
    ImageRecipe,
    base_image,
    build_arguments,
    build_image,
    build_network,
    ca_bundle,
    context_tar,
    copy_sources,
    follow_build,
    go_arguments,
    missing_images,
    read_recipe,
    require_base,
    split_name,
    worth_showing,
)
from labkit.lab.topology import load_topology

DOCKERFILE = """\
ARG BASE_IMAGE=some:base
FROM ${BASE_IMAGE}
COPY docker/ca-bundle.pem /tmp/ca-bundle.pem
COPY --chown=900 src/one.txt \\
     src/tree /opt/
COPY --from=builder /etc/passwd /elsewhere
"""

PEM = b"-----BEGIN CERTIFICATE-----\n"


@pytest.fixture
def project_copy(tmp_path: Path) -> Path:
    """A project with one Dockerfile that copies a file and a tree, and much that it does not name."""
    for path, text in {
        "docker/box/Dockerfile": DOCKERFILE,
        "docker/ca-bundle.pem": "",
        "src/one.txt": "one",
        "src/tree/a.py": "a",
        "src/tree/deep/b.py": "b",
        "src/tree/__pycache__/a.pyc": "never",
        "src/not_named.txt": "secret",
        ".git/config": "secret",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def recipe(root: Path, base: str = "some:base") -> ImageRecipe:
    return read_recipe("box", root / "docker/box/Dockerfile", root, base)


def members(packed: bytes) -> dict[str, bytes]:
    """Path -> content of what a tar holds."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


class FakeDaemon:
    """Stands for the daemon's low-level client: some images, a registry that says no, a build that says `steps`."""

    def __init__(self, images: tuple[str, ...] = (), registry_says: str = "", steps: tuple[str, ...] = ()) -> None:
        self.present = list(images)
        self.registry_says = registry_says
        self.steps = steps
        self.pulled: list[tuple[str, str]] = []
        self.build_options: dict[str, Any] = {}

    def inspect_image(self, name: str) -> dict[str, str]:
        if name not in self.present:
            raise ImageNotFound(f"no such image: {name}")
        return {"Id": name}

    def images(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters["label"].startswith(IMAGE_LABEL)
        return [{"RepoTags": [name], "Created": 0} for name in self.present]

    def pull(self, repository: str, tag: str, stream: bool, decode: bool) -> Iterator[dict[str, str]]:
        self.pulled.append((repository, tag))
        if self.registry_says:
            raise APIError(self.registry_says)
        self.present.append(f"{repository}:{tag}")
        yield {"status": "Pulling from somewhere"}
        yield {"status": "Downloading", "progress": "[=>  ]"}

    def build(self, **options: Any) -> Iterator[dict[str, str]]:
        self.build_options = options | {"context": options["fileobj"].read()}
        yield from ({"stream": step} for step in self.steps)

    def prune_images(self, filters: dict[str, Any]) -> None:
        assert filters == {"dangling": True, "label": STAGE_LABEL}


# ---- what goes in ---------------------------------------------------------------------------------------------------
def test_copy_lines_name_the_context() -> None:
    """Sources of COPY count, over several lines too; options, targets and other stages do not."""
    assert copy_sources(DOCKERFILE) == ["docker/ca-bundle.pem", "src/one.txt", "src/tree"]


def test_the_context_holds_just_what_copy_names(project_copy: Path) -> None:
    """No secret of the checkout reaches the daemon by accident."""
    packed = context_tar(recipe(project_copy))
    assert set(members(packed)) == {
        "docker/box/Dockerfile",
        "src/one.txt",
        "src/tree/a.py",
        "src/tree/deep/b.py",
        CA_BUNDLE_PATH,
    }


def test_the_same_content_gives_the_same_bytes_and_tag(project_copy: Path) -> None:
    """Times and rights of files play no part, so nothing is built twice."""
    first, packed = recipe(project_copy), context_tar(recipe(project_copy))
    (project_copy / "src/one.txt").touch()
    (project_copy / "src/one.txt").chmod(0o600)
    (project_copy / "src/not_named.txt").write_text("other")
    assert recipe(project_copy).tag == first.tag
    assert context_tar(recipe(project_copy)) == packed


@pytest.mark.parametrize("path", ["src/one.txt", "src/tree/deep/b.py", "docker/box/Dockerfile"])
def test_a_changed_file_gives_a_new_tag(project_copy: Path, path: str) -> None:
    """Whatever goes in decides the tag."""
    before = recipe(project_copy).tag
    (project_copy / path).write_text(DOCKERFILE + "# changed\n")
    assert recipe(project_copy).tag != before


def test_a_new_file_and_another_base_give_a_new_tag(project_copy: Path) -> None:
    """So do a file more in a copied tree and the name of the base."""
    before = recipe(project_copy).tag
    assert recipe(project_copy, "other:base").tag != before
    (project_copy / "src/tree/c.py").write_text("")
    assert recipe(project_copy).tag != before
    assert before.startswith("labkit/box:")


def test_missing_files_are_said(project_copy: Path) -> None:
    """A COPY of nothing and a folder without Dockerfile name themselves."""
    (project_copy / "src/one.txt").unlink()
    with pytest.raises(StackError, match=r"box: its Dockerfile copies src/one\.txt"):
        recipe(project_copy)
    with pytest.raises(StackError, match=r"no .*none/Dockerfile"):
        read_recipe("none", project_copy / "none/Dockerfile", project_copy)


def test_every_image_of_the_lab_can_be_read() -> None:
    """Each Dockerfile of the project names files that are there, and no test or notebook."""
    topology = load_topology()
    for name in topology.images:
        paths = [path for path, _ in image_recipe(topology, name).files]
        assert paths
        assert all(path.startswith(("docker/", "labkit/")) for path in paths)


# ---- proxies and certificates ---------------------------------------------------------------------------------------
def test_the_ca_bundle_is_handed_in_and_not_in_the_tag(project_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's certificates reach the builder; an image made with them is the same image."""
    bundle = project_copy / "company.pem"
    bundle.write_bytes(PEM)
    monkeypatch.setenv("LABKIT_CA_BUNDLE", str(bundle))
    daemon = FakeDaemon(images=("some:base",))
    before = recipe(project_copy).tag
    assert build_image(daemon, recipe(project_copy), lambda line: None) == before
    assert members(daemon.build_options["context"])[CA_BUNDLE_PATH] == PEM
    assert daemon.build_options["tag"] == before
    assert "BEGIN" not in str(daemon.build_options["buildargs"])


def test_which_ca_bundle_is_taken(tmp_path: Path) -> None:
    """LABKIT_CA_BUNDLE first, else what other programs read; only the first must be readable."""
    (tmp_path / "a").write_bytes(b"A")
    (tmp_path / "b").write_bytes(b"B")
    both = {"LABKIT_CA_BUNDLE": str(tmp_path / "a"), "SSL_CERT_FILE": str(tmp_path / "b")}
    assert ca_bundle(both) == b"A"
    assert ca_bundle({"SSL_CERT_FILE": "/not/there", "REQUESTS_CA_BUNDLE": str(tmp_path / "b")}) == b"B"
    assert ca_bundle({}) == b""
    with pytest.raises(StackError, match="LABKIT_CA_BUNDLE=/not/there cannot be read"):
        ca_bundle({"LABKIT_CA_BUNDLE": "/not/there"})


def test_proxies_become_build_arguments() -> None:
    """Small names, which Docker keeps out of the history; apt's own proxy goes before."""
    assert build_arguments({}) == {}
    environ = {"HTTP_PROXY": "http://p:1", "https_proxy": "http://p:2", "NO_PROXY": "x"}
    assert build_arguments(environ) == {"http_proxy": "http://p:1", "https_proxy": "http://p:2", "no_proxy": "x"}
    assert build_arguments(environ | {"LABKIT_APT_PROXY": "http://a:3"})["http_proxy"] == "http://a:3"


def test_a_proxy_on_loopback_needs_the_hosts_network() -> None:
    """A build container has a loopback of its own."""
    assert build_network({"http_proxy": "http://127.0.0.1:3142"}) == "host"
    assert build_network({"http_proxy": "http://localhost:3142"}) == "host"
    assert build_network({"http_proxy": "http://10.0.0.5:3142", "no_proxy": "127.0.0.1"}) is None


# ---- the base -------------------------------------------------------------------------------------------------------
def test_the_name_of_the_base() -> None:
    """LABKIT_BASE_IMAGE, else Debian 13; a name without a tag means latest."""
    assert base_image({}) == DEFAULT_BASE_IMAGE
    assert base_image({"LABKIT_BASE_IMAGE": "mine:1"}) == "mine:1"
    assert split_name("debian:trixie-slim") == ("debian", "trixie-slim")
    assert split_name("host:5000/debian") == ("host:5000/debian", "latest")
    assert split_name("host:5000/debian:13") == ("host:5000/debian", "13")
    with pytest.raises(StackError, match="docker pull debian@sha256:0"):
        split_name("debian@sha256:0")


def test_a_base_that_is_here_is_not_pulled() -> None:
    """No registry is asked without need."""
    daemon = FakeDaemon(images=("some:base",))
    require_base(daemon, "some:base", pytest.fail)
    assert daemon.pulled == []


def test_a_base_that_is_missing_is_pulled() -> None:
    """With a line now and then, but none a percent."""
    daemon, said = FakeDaemon(), list[str]()
    require_base(daemon, "some:base", said.append)
    assert daemon.pulled == [("some", "base")]
    assert said == ["pulling some:base", "some:base: Pulling from somewhere"]


def test_a_base_that_no_registry_gives_names_both_ways_out() -> None:
    """`./lab base-image` makes it, LABKIT_BASE_IMAGE names another."""
    with pytest.raises(StackError, match="connection refused") as caught:
        require_base(FakeDaemon(registry_says="connection refused"), "some:base", lambda line: None)
    assert "./lab base-image" in str(caught.value)
    assert "LABKIT_BASE_IMAGE" in str(caught.value)


def test_what_is_missing(project_copy: Path) -> None:
    """One question; only the exact tag counts."""
    wanted = recipe(project_copy)
    assert missing_images(FakeDaemon(images=("labkit/box:old",)), [wanted]) == [wanted]
    assert missing_images(FakeDaemon(images=(wanted.tag,)), [wanted]) == []


# ---- what a person sees ---------------------------------------------------------------------------------------------
NOISE = (
    " ---> 3f2a11e0",
    "Removing intermediate container 3f2a11e0",
    "(Reading database ... 5%",
    "Selecting previously unselected package kamailio.",
    "Setting up kamailio (6.0.1-1) ...",
    "Successfully built 3f2a11e0",
)


def test_a_step_is_a_line_and_noise_is_none() -> None:
    """Steps, amounts and errors are shown; dpkg's and the builder's chatter is not."""
    assert worth_showing("Step 2/5 : RUN  apt-get   update") == "step 2 of 5: RUN apt-get update"
    assert len(worth_showing("Step 2/5 : RUN " + "x" * 500)) < 120
    assert worth_showing("E: Unable to locate package x") == "E: Unable to locate package x"
    assert worth_showing("Need to get 26 MB of archives.")
    assert [line for line in NOISE if worth_showing(line)] == []


def test_a_failed_build_shows_its_last_lines() -> None:
    """The error has what the step said last, without percentages and hashes, and the cure where one is known."""
    said = list[str]()
    steps: list[dict[str, str]] = [{"stream": f"{line}\n"} for line in ("Step 1/1 : RUN apt-get update", *NOISE)]
    steps.append({"stream": "(Reading database ... 5%\r(Reading database ... 100%\rErr:1 Could not resolve 'x'\n"})
    steps.append({"error": "The command returned a non-zero code: 100"})
    with pytest.raises(StackError) as caught:
        follow_build("box", steps, said.append)
    text = str(caught.value)
    assert said == ["box: step 1 of 1: RUN apt-get update", "box: Err:1 Could not resolve 'x'"]
    assert "    Err:1 Could not resolve 'x'" in text
    assert "    Setting up kamailio" in text
    assert "Reading database" not in text
    assert "3f2a11e0" not in text
    assert "LABKIT_APT_PROXY" in text
    assert "LABKIT_CA_BUNDLE" in text


def test_a_full_disk_is_said() -> None:
    """The cure is to make room."""
    with pytest.raises(StackError, match="The disk is full"):
        follow_build("box", [{"error": "write /x: no space left on device"}], lambda line: None)


def test_a_mirror_of_go_modules_goes_to_images_that_build_go(project_copy: Path) -> None:
    """Others would complain of a build argument that nobody takes."""
    plain = recipe(project_copy)
    assert go_arguments(plain, {"GOPROXY": "http://mirror"}) == {}
    text = dict(plain.files)[plain.dockerfile] + b"ARG GOPROXY\n"
    building = replace(plain, files=((plain.dockerfile, text),))
    assert go_arguments(building, {"GOPROXY": "http://mirror"}) == {"GOPROXY": "http://mirror"}
