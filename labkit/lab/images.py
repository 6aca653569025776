"""Images of the docker engine: what goes into one, whether it is there already, and building it.

An image's tag is the hash of all that goes in (its Dockerfile, the files its COPY lines name, the name of its
base), so "is it there, and is it this code?" is one question to the daemon, and a changed file makes a new
image. The context is a tar made in memory that holds only those files. Dockerfiles are read by the classic
builder, so neither the docker command nor BuildKit is needed.

What the builder is told from the environment:

    LABKIT_BASE_IMAGE     the image that ours start from (debian:trixie-slim)
    LABKIT_APT_PROXY      a proxy for apt alone, for example http://10.0.0.5:3142
    http_proxy, https_proxy, no_proxy (also in capitals)
    LABKIT_CA_BUNDLE      certificates for apt over https (else SSL_CERT_FILE, REQUESTS_CA_BUNDLE)
    GOPROXY               where Go modules come from, for images that build one (else what this host's Go is set to)

Proxies travel as the build arguments that Docker keeps out of an image's history; certificates are public,
and the Dockerfiles remove what made apt trust them. Neither is part of the hash.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import subprocess
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labkit.errors import StackError

DEFAULT_BASE_IMAGE = "debian:trixie-slim"
IMAGE_LABEL = "labkit.image"
STAGE_LABEL = "labkit.stage"
"""On the stages of an image that are thrown away."""
CA_BUNDLE_PATH = "docker/ca-bundle.pem"
"""Where Dockerfiles expect the certificates, relative to the project; the file in the project is empty."""

_COPY = re.compile(r"^\s*COPY\s+(?P<words>.+)$", re.IGNORECASE)
_WANTS_GO_PROXY = re.compile(r"^ARG\s+GOPROXY\b", re.MULTILINE)
_STEP = re.compile(r"^Step (?P<number>\d+)/(?P<all>\d+) : (?P<what>.*)$")
_BUILDERS_OWN = re.compile(
    r"^ ---> |^Removing intermediate container|^\(Reading database|^Successfully (built|tagged) "
)
_TELLING = re.compile(r"^(E:|W:|Err:|Error|error:|Need to get |Fetched |Traceback|dpkg: error)")
_KEEP_BUILDS = 3
"""How many builds of one image stay, so that going between two branches does not build each time."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """One image as it has to be: its name, and every byte that decides what is in it."""

    name: str
    """Name in docker/lab.toml, for example "kamailio"."""
    dockerfile: str
    """Path of the Dockerfile, relative to the project."""
    files: tuple[tuple[str, bytes], ...]
    """Path relative to the project, content; sorted; without the certificates."""
    base: str
    """The image it starts from."""

    @property
    def tag(self) -> str:
        """Repository and tag, for example `labkit/kamailio:3f2a...`."""
        digest = hashlib.sha256(self.base.encode() + b"\0")
        for path, content in self.files:
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        return f"labkit/{self.name}:{digest.hexdigest()[:16]}"


def base_image(environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of the image that ours start from."""
    return environ.get("LABKIT_BASE_IMAGE") or DEFAULT_BASE_IMAGE


def read_recipe(name: str, dockerfile: Path, root: Path, base: str | None = None) -> ImageRecipe:
    """Read a Dockerfile and the files its COPY lines name.

    Args:
        root: the project's folder, to which the COPY lines are relative.
    Raises:
        StackError: the Dockerfile or a file it copies is not there.
    """
    if not dockerfile.is_file():
        raise StackError(f"image {name}: there is no {dockerfile}; docker/lab.toml names a folder without a Dockerfile")
    found = {_relative(dockerfile, root): dockerfile.read_bytes()}
    for source in copy_sources(dockerfile.read_text(encoding="utf-8")):
        if source != CA_BUNDLE_PATH:
            found.update(_read_tree(name, root, source))
    return ImageRecipe(name, _relative(dockerfile, root), tuple(sorted(found.items())), base or base_image())


def copy_sources(dockerfile_text: str) -> list[str]:
    """List what the COPY lines take from the context (not what they take from other stages)."""
    sources: list[str] = []
    for line in dockerfile_text.replace("\\\n", " ").splitlines():
        match = _COPY.match(line)
        words = shlex.split(match["words"]) if match else []
        if words and not any(word.startswith("--from") for word in words):
            sources += [word for word in words if not word.startswith("--")][:-1]
    return sources


def _relative(path: Path, root: Path) -> str:
    return path.resolve().relative_to(root.resolve()).as_posix()


def _read_tree(name: str, root: Path, source: str) -> dict[str, bytes]:
    start = root / source
    if start.is_file():
        return {source.rstrip("/"): start.read_bytes()}
    if not start.is_dir():
        raise StackError(f"image {name}: its Dockerfile copies {source}, which is not in {root}")
    paths = sorted(path for path in start.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def context_tar(recipe: ImageRecipe, ca_bundle: bytes = b"") -> bytes:
    """Pack what the builder needs; the same input gives the same bytes, so that its cache works."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in [*recipe.files, (CA_BUNDLE_PATH, ca_bundle)]:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def ca_bundle(environ: Mapping[str, str] = os.environ) -> bytes:
    """Read the certificates that the build should trust; empty when none are named.

    Raises:
        StackError: LABKIT_CA_BUNDLE names a file that cannot be read.
    """
    chosen = environ.get("LABKIT_CA_BUNDLE")
    for path in (chosen, environ.get("SSL_CERT_FILE"), environ.get("REQUESTS_CA_BUNDLE")):
        if path:
            try:
                return Path(path).read_bytes()
            except OSError as error:
                if path == chosen:
                    raise StackError(f"LABKIT_CA_BUNDLE={path} cannot be read ({error.strerror})") from error
    return b""


def build_arguments(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the build arguments: proxies only, under the names that Docker keeps out of the history."""
    arguments = {}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        value = environ.get(name) or environ.get(name.upper())
        if value:
            arguments[name] = value
    if environ.get("LABKIT_APT_PROXY"):
        arguments["http_proxy"] = environ["LABKIT_APT_PROXY"]
    return arguments


def go_arguments(recipe: ImageRecipe, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return GOPROXY for an image that asks for it and a user who has one: a company's mirror of Go modules."""
    text = dict(recipe.files)[recipe.dockerfile].decode()
    if not _WANTS_GO_PROXY.search(text):
        return {}
    chosen = environ.get("GOPROXY") or _go_setting("GOPROXY")
    return {"GOPROXY": chosen} if chosen else {}


def _go_setting(name: str) -> str:
    """What this host's Go is set to; empty without a Go."""
    try:
        done = subprocess.run(["go", "env", name], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def build_network(arguments: Mapping[str, str]) -> str | None:
    """Return "host" when a proxy listens on this host's loopback, which a build container cannot reach otherwise."""
    hosts = [
        urlsplit(value).hostname or ""
        for name, value in arguments.items()
        if name.endswith("_proxy") and name != "no_proxy"
    ]
    return "host" if any(host == "localhost" or host.startswith("127.") for host in hosts) else None


def missing_images(api: Any, recipes: Iterable[ImageRecipe]) -> list[ImageRecipe]:
    """Return those recipes of which the daemon has no image; one question to it."""
    present = {tag for image in api.images(filters={"label": IMAGE_LABEL}) for tag in image.get("RepoTags") or ()}
    return [recipe for recipe in recipes if recipe.tag not in present]


def build_image(api: Any, recipe: ImageRecipe, progress: Progress) -> str:
    """Build one image and return its tag; its steps go to `progress`.

    Raises:
        StackError: the base image is not to be had, or a step failed; carries the last lines.
    """
    require_base(api, recipe.base, progress)
    arguments = build_arguments() | go_arguments(recipe)
    progress(f"building image {recipe.name} on {recipe.base} (once; one to three minutes with a good network)")
    steps = api.build(
        fileobj=io.BytesIO(context_tar(recipe, ca_bundle())),
        custom_context=True,
        dockerfile=recipe.dockerfile,
        tag=recipe.tag,
        buildargs={"BASE_IMAGE": recipe.base, **arguments},
        network_mode=build_network(arguments),
        labels={IMAGE_LABEL: recipe.name},
        rm=True,
        forcerm=True,
        decode=True,
        use_config_proxy=True,
    )
    follow_build(recipe.name, steps, progress)
    # What a first stage left (a compiler and its caches) is not needed again: the tag says what was built.
    api.prune_images(filters={"dangling": True, "label": STAGE_LABEL})
    _drop_old_builds(api, recipe)
    return recipe.tag


def follow_build(name: str, steps: Iterable[Mapping[str, Any]], progress: Progress) -> None:
    """Hand on what a person wants to know of the builder's lines, as they come.

    Raises:
        StackError: the builder gave up; the last lines of everything it said are in the message.
    """
    last: deque[str] = deque(maxlen=12)
    for step in steps:
        for line in _written_lines(str(step.get("stream") or "")):
            last.append(line)
            shown = worth_showing(line)
            if shown:
                progress(f"{name}: {shown}")
        if step.get("error"):
            raise StackError(_build_failure(name, str(step["error"]), last))


def _written_lines(text: str) -> list[str]:
    """Cut into lines without the builder's own remarks; of one that was overwritten (percentages) the end."""
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [line for line in lines if line and not _BUILDERS_OWN.match(line)]


def worth_showing(line: str) -> str:
    """Return what a person gets to see of a builder's line: a step, an amount to fetch, an error; else nothing."""
    step = _STEP.match(line)
    if step:
        return f"step {step['number']} of {step['all']}: {shorten(step['what'], 90)}"
    return line if _TELLING.match(line) else ""


def shorten(text: str, most: int) -> str:
    """Return a text of one line and at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _build_failure(name: str, error: str, last: Iterable[str]) -> str:
    text = f"image {name} could not be built: {error.strip()}\n" + "\n".join(f"    {line}" for line in last)
    said = (text + error).lower()
    if "no space left" in said:
        return f"{text}\nThe disk is full: free some space, for example with `docker system prune`."
    if any(sign in said for sign in ("could not resolve", "could not connect", "unable to fetch", "failed to fetch")):
        return (
            f"{text}\nThe package server was not reached: behind a proxy set LABKIT_APT_PROXY (or http_proxy), "
            "behind a company CA set LABKIT_CA_BUNDLE; `./lab up --engine local` needs no image."
        )
    return text


def require_base(api: Any, base: str, progress: Progress) -> None:
    """Make sure that the base image is there, pulling it when it is not.

    Raises:
        StackError: it is not there and no registry gives it; names the two ways out.
    """
    from docker.errors import APIError

    if is_present(api, base):
        return
    progress(f"pulling {base}")
    try:
        repository, tag = split_name(base)
        for step in api.pull(repository, tag=tag, stream=True, decode=True):
            if step.get("error"):
                raise StackError(_no_base(base, str(step["error"])))
            if "progress" not in step and step.get("status"):
                progress(f"{base}: {step['status']}")
    except APIError as error:
        raise StackError(_no_base(base, str(error.explanation or error))) from error


def is_present(api: Any, image: str) -> bool:
    """Tell whether the daemon has an image of this name."""
    from docker.errors import ImageNotFound

    try:
        api.inspect_image(image)
    except ImageNotFound:
        return False
    return True


def split_name(image: str) -> tuple[str, str]:
    """Split `repository:tag`; a name without a tag means "latest", as everywhere with Docker.

    Raises:
        StackError: the name is a digest, which nobody can give to an image.
    """
    if "@" in image:
        raise StackError(f"{image} names an image by its digest and it is not here: `docker pull {image}` fetches it")
    if ":" in image.rsplit("/", 1)[-1]:
        repository, _, tag = image.rpartition(":")
        return repository, tag
    return image, "latest"


def _no_base(base: str, reason: str) -> str:
    return (
        f"the base image {base} is not here and could not be pulled ({reason.strip()}). "
        "Make it from your distribution's package server with `./lab base-image` (needs root), or name another "
        "Debian 13 image in LABKIT_BASE_IMAGE."
    )


def _drop_old_builds(api: Any, recipe: ImageRecipe) -> None:
    """Remove all but the newest builds of this image; one that a container uses stays."""
    from docker.errors import APIError

    builds = api.images(filters={"label": f"{IMAGE_LABEL}={recipe.name}"})
    for image in sorted(builds, key=lambda image: image["Created"], reverse=True)[_KEEP_BUILDS:]:
        try:
            for tag in image.get("RepoTags") or ():
                api.remove_image(tag)
        except APIError:
            continue
