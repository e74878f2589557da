"""Where a package's file is. Each registry's ordinary client on this machine is asked, so that mirrors, proxies and
certificates set up for it hold here too, and no registry's address stands in this repository."""

import base64
import glob
import html.parser
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field

from .lock import PartError

PIP_DEFAULT = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
SIMPLE_TYPES = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass
class Source:
    """An address and how to open it; `sha256` is what the registry itself says, when it says so."""

    url: str
    sha256: str = ""
    opener: object = None
    headers: dict = field(default_factory=dict)


def run(command, env=None):
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, stdin=subprocess.DEVNULL)


def make_opener(cafile=None, proxy=None, insecure_host=None):
    context = ssl.create_default_context()
    if cafile:
        if os.path.isdir(cafile):
            context.load_verify_locations(capath=cafile)
        else:
            context.load_verify_locations(cafile=cafile)
    if insecure_host:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    handlers = [urllib.request.HTTPSHandler(context=context)]
    if proxy:
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    return urllib.request.build_opener(*handlers)


def without_userinfo(url):
    """urllib ignores user:password@ in an address: it becomes a header, for that host alone."""
    split = urllib.parse.urlsplit(url)
    if "@" not in split.netloc:
        return url, {}
    userinfo, host = split.netloc.rsplit("@", 1)
    token = base64.b64encode(urllib.parse.unquote(userinfo).encode()).decode()
    return urllib.parse.urlunsplit(split._replace(netloc=host)), {"Authorization": f"Basic {token}"}


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        href = dict(attrs).get("href") if tag == "a" else None
        if href:
            self.found.append(href)


class Pip:
    """pip's own settings: index, extra indexes, find-links, certificate, proxy, trusted hosts."""

    def __init__(self):
        self.settings = {}
        for self.python in (sys.executable, shutil.which("python3"), "/usr/bin/python3"):
            listing = run([self.python, "-m", "pip", "config", "list"]) if self.python else None
            if listing and listing.returncode == 0:
                break
        else:
            raise PartError("pip is needed to find Python packages; install it with: apt-get install python3-pip")
        for line in listing.stdout.splitlines():
            name, _, value = line.partition("=")
            self.settings[name] = value.strip()[1:-1].replace("\\n", "\n") if value else ""

    def get(self, key):
        for section in (":env:", "download", "install", "global"):
            value = self.settings.get(f"{section}.{key}")
            if value:
                return value
        return ""

    def indexes(self):
        if self.get("no-index").lower() in ("1", "true", "yes", "on"):
            return []
        first = self.get("index-url")
        if not first:
            answer = run([self.python, "-c", PIP_DEFAULT])
            if answer.returncode:
                raise PartError("this pip does not tell its default index; set PIP_INDEX_URL to the one to use")
            first = answer.stdout.strip()
        return [first, *self.get("extra-index-url").split()]

    def opener(self, url):
        host = urllib.parse.urlsplit(url).netloc.rsplit("@", 1)[-1]
        trusted = self.get("trusted-host").split()
        return make_opener(self.get("cert"), self.get("proxy"), host in trusted or host.split(":")[0] in trusted)


def read_page(pip, url, timeout):
    plain, headers = without_userinfo(url)
    request = urllib.request.Request(plain, headers={"Accept": SIMPLE_TYPES, **headers})
    with pip.opener(url).open(request, timeout=timeout) as answer:
        body = answer.read(64 << 20)
        return answer.geturl(), answer.headers.get_content_type(), body


def files_of_page(base, kind, body):
    """Yields (file name, absolute address, sha256 or "") from a PEP 691 or PEP 503 page."""
    if kind.endswith("+json"):
        for entry in json.loads(body).get("files", []):
            yield entry["filename"], urllib.parse.urljoin(base, entry["url"]), entry.get("hashes", {}).get("sha256", "")
        return
    links = Links()
    links.feed(body.decode("utf-8", "replace"))
    for href in links.found:
        address, _, fragment = urllib.parse.urljoin(base, href).partition("#")
        name = urllib.parse.unquote(address.rsplit("/", 1)[-1].partition("?")[0])
        yield name, address, fragment[7:] if fragment.startswith("sha256=") else ""


def find_links(pip, part, timeout):
    for place in pip.get("find-links").split():
        path = urllib.request.url2pathname(place[7:]) if place.startswith("file://") else place
        if "://" not in path:
            candidate = os.path.join(os.path.expanduser(path), part.file)
            if os.path.isfile(candidate):
                return Source("file://" + urllib.request.pathname2url(os.path.abspath(candidate)), opener=make_opener())
            continue
        try:
            for name, address, digest in files_of_page(*read_page(pip, place, timeout)):
                if name == part.file:
                    return Source(address, digest, pip.opener(address))
        except (OSError, ValueError):
            continue  # pip skips a find-links page that does not answer; the index is asked next
    return None


def reason(error):
    inner = getattr(error, "reason", None)
    text = str(inner if inner is not None and not isinstance(inner, str) else error)
    return text.replace("\n", " ").strip() or type(error).__name__


def resolve_pypi(part, timeout, memo):
    if "pip" not in memo:
        memo["pip"] = Pip()
    pip = memo["pip"]
    found = find_links(pip, part, timeout)
    if found:
        return found
    name = re.sub(r"[-_.]+", "-", part.package).lower()
    trouble = ""
    for index in pip.indexes():
        url = index.rstrip("/") + f"/{name}/"
        try:
            page = read_page(pip, url, timeout)
        except urllib.error.HTTPError as error:
            trouble = trouble or (f"the Python index does not know the package {part.package}" if error.code == 404
                                  else f"the Python index answered {error.code} for {part.package}")
            continue
        except OSError as error:
            trouble = f"the Python index cannot be reached ({reason(error)})"
            continue
        try:
            listed = list(files_of_page(*page))
        except (ValueError, KeyError) as error:
            trouble = f"the Python index sent a page for {part.package} that cannot be read ({reason(error)})"
            continue
        for name_, address, digest in listed:
            if name_ == part.file:
                plain, headers = without_userinfo(address)
                if not headers and urllib.parse.urlsplit(address).hostname == urllib.parse.urlsplit(index).hostname:
                    headers = without_userinfo(index)[1]
                return Source(plain, digest, pip.opener(address), headers)
        trouble = trouble or f"the Python index has no file {part.file} for {part.package} (withdrawn?)"
    raise PartError(f"{trouble or 'pip is set to use no index'}; check the network and pip's settings "
                    f"(pip config list), or put {part.file} into the parts folder by hand")


def resolve_npm(part, timeout, memo):
    if not shutil.which("npm"):
        raise PartError(f"npm is needed to find {part.package}; install it with: apt-get install npm")
    env = dict(os.environ, npm_config_fetch_timeout=str(int(timeout * 1000)), npm_config_fetch_retries="1")
    answer = run(["npm", "view", f"{part.package}@{part.version}", "dist.tarball", "--json"], env)
    try:
        value = json.loads(answer.stdout)
    except ValueError:
        value = {"error": {"summary": (answer.stderr.strip().splitlines() or ["no answer"])[0]}} if answer.returncode else ""
    if isinstance(value, str) and value:
        cafile = run(["npm", "config", "get", "cafile"]).stdout.strip()
        return Source(value, opener=make_opener(cafile if cafile not in ("", "null", "undefined") else None))
    said = value.get("error", {}).get("summary", "").splitlines() if isinstance(value, dict) else []
    detail = f" ({said[0].strip()})" if said else ""
    raise PartError(f"npm finds no {part.package} {part.version}{detail}; check the network and npm's settings "
                    f"(npm config list), or put {part.file} into the parts folder by hand")


def system_codename():
    with open("/etc/os-release", encoding="utf-8") as handle:
        match = re.search(r"^VERSION_CODENAME=\"?([a-z]+)", handle.read(), re.M)
    return match.group(1) if match else ""


def derive_sources(texts, own, wanted):
    """One-line and deb822 sources that name the suite `own` exactly, with that word replaced by `wanted`."""
    lines, stanzas = [], []
    for name, text in texts:
        if name.endswith(".sources"):
            for stanza in re.split(r"\n\s*\n", text):
                fields = [l for l in stanza.splitlines() if l.strip() and not l.startswith("#")]
                suites = next((l.split(":", 1)[1].split() for l in fields if l.lower().startswith("suites:")), [])
                if own not in suites or any(re.match(r"enabled:\s*no", l, re.I) for l in fields):
                    continue
                stanzas.append("\n".join(f"Suites: {wanted}" if l.lower().startswith("suites:") else
                                         ("Types: deb" if l.lower().startswith("types:") else l) for l in fields))
            continue
        for line in text.splitlines():
            match = re.match(r"\s*deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
            if match and match.group(3) == own and "main" in match.group(4).split():
                lines.append(f"deb {match.group(1) or ''}{match.group(2)} {wanted} {match.group(4)}")
    return "\n".join(lines) + "\n", "\n\n".join(stanzas) + "\n"


def private_apt(suite, cache):
    """An apt root of our own for another suite: the system's package lists and state stay untouched."""
    root = os.path.join(cache, "apt-" + suite)
    for folder in ("lists/partial", "archives/partial", "parts.d"):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    texts = []
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list")),
                 *sorted(glob.glob("/etc/apt/sources.list.d/*.sources"))]:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as handle:
                texts.append((path, handle.read()))
    one_line, deb822 = derive_sources(texts, system_codename(), suite)
    if not one_line.strip() and not deb822.strip():
        raise PartError(f"apt's sources name no archive from which Debian's {suite} could be derived; "
                        "add Debian's main archive to /etc/apt/sources.list.d")
    for name, text in (("sources.list", one_line), ("parts.d/choir.sources", deb822), ("status", "")):
        with open(os.path.join(root, name), "w", encoding="utf-8") as handle:
            handle.write(text if text.strip() else "")
    options = {"Dir::Etc::sourcelist": f"{root}/sources.list", "Dir::Etc::sourceparts": f"{root}/parts.d",
               "Dir::State::lists": f"{root}/lists", "Dir::State::status": f"{root}/status",
               "Dir::Cache::archives": f"{root}/archives", "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
               "Acquire::Languages": "none", "APT::Sandbox::User": "root", "APT::Update::Error-Mode": "any",
               "Acquire::Retries": "2"}
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def resolve_deb(part, timeout, memo):
    suite = part.kind.split(":", 1)[1]
    if not shutil.which("apt-get"):
        raise PartError(f"apt-get is needed to find {part.package}; this set-up is for Debian")
    key = "apt-" + suite
    if key not in memo:
        options = private_apt(suite, memo["cache"])
        answer = run(["apt-get", *options, "-q", "update"])
        if answer.returncode:
            said = [l for l in answer.stderr.splitlines() if l.startswith(("E:", "W:"))]
            raise PartError(f"apt cannot read Debian's {suite} ({said[0][2:].strip() if said else 'no reason given'}); "
                            "check the network and run the same command again")
        memo[key] = options
    answer = run(["apt-get", *memo[key], "download", "--print-uris", f"{part.package}={part.version}"])
    match = re.match(r"'([^']+)'\s+(\S+)\s+(\d+)(?:\s+SHA256:([0-9a-f]{64}))?", answer.stdout)
    if answer.returncode or not match:
        raise PartError(f"Debian's {suite} offers no {part.package} {part.version} any more; "
                        "take the newer version into parts.lock, or put the file into the parts folder by hand")
    if not match.group(1).startswith(("http://", "https://", "file:/")):
        raise PartError(f"apt gets {part.package} from {match.group(1).split(':')[0]}, which cannot be read here; "
                        f"put {part.file} into the parts folder by hand")
    scheme = "https" if match.group(1).startswith("https") else "http"
    proxy = run(["apt-config", "dump", f"Acquire::{scheme}::Proxy", "--format", "%v%n"]).stdout.strip()
    return Source(match.group(1), match.group(4) or "", make_opener(proxy=proxy if proxy != "DIRECT" else None))


def resolve(part, timeout, memo):
    kind = part.kind.split(":", 1)[0]
    source = {"pypi": resolve_pypi, "npm": resolve_npm, "deb": resolve_deb}[kind](part, timeout, memo)
    if source.sha256 and source.sha256 != part.sha256:
        raise PartError(f"the registry's {part.file} has another sha256 than parts.lock; nothing was fetched, "
                        "do not use it before you know why it changed")
    return source
