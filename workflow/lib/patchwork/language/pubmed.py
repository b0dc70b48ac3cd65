"""Abstracts from PubMed by NCBI E-utilities: search, then batches, with resumption."""

import hashlib
import json
import os
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import requests
from defusedxml import ElementTree as SafeTree
from defusedxml.common import DefusedXmlException
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from patchwork.jobs.log import LOGGER, Progress
from patchwork.jobs.provenance import file_sha256, settings_digest
from patchwork.language.abstracts import COLUMNS

ADDRESS = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils"
TOOL = "patchwork"
BATCH = 200
# Requests a second that NCBI allows without and with a key.
_RATES = (3.0, 10.0)
_PASSING = {429, 500, 502, 503, 504}
_SECONDS = 60.0


class _PassingError(Exception):
    """A failure that may pass: try again, after `wait_s` if the server says so."""

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        term: in PubMed's language.
        from_day: first day of publication, YYYY/MM/DD.
        to_day: last day, so that a later search gives the same articles.
        n_max: at most so many articles, 1 to 9,999: one search of PubMed gives no more.
    """

    term: str
    from_day: str
    to_day: str
    n_max: int


@dataclass(frozen=True)
class Access:
    """Who asks, and how patiently.

    Attributes:
        email: NCBI asks for one.
        key: raises the rate that NCBI allows from 3 to 10 requests a second; empty: none.
        address: of the E-utilities.
        attempts: tries of each request.
        pause_s: before the second try; it doubles each time.
        sleep: waits so many seconds.
    """

    email: str
    key: str = field(default="", repr=False)
    address: str = ADDRESS
    attempts: int = 6
    pause_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    @staticmethod
    def of(environment: Mapping[str, str]) -> "Access":
        """Access as the environment says: NCBI_EMAIL, NCBI_API_KEY, NCBI_EUTILS (an address).

        Raises:
            ValueError: without an e-mail.
        """
        email = environment.get("NCBI_EMAIL", "")
        if "@" not in email:
            raise ValueError(
                f"NCBI_EMAIL is {email!r}; allowed is your e-mail, which NCBI asks for: "
                "export NCBI_EMAIL=you@example.org"
            )
        address = environment.get("NCBI_EUTILS", ADDRESS).rstrip("/")
        return Access(email, environment.get("NCBI_API_KEY", ""), address)


def fetch(query: Query, access: Access, folder: str | Path) -> pd.DataFrame:
    """Articles with an abstract, in the order of their PMIDs.

    What was fetched lies in a folder with its checksums, so that a killed job goes on where it
    was. The PMIDs are kept there too (``pmids.json``).

    Args:
        query: see :class:`Query`.
        access: see :class:`Access`.
        folder: of the parts of this query and of others.

    Returns:
        The table ``abstracts.parquet``.

    Raises:
        ValueError: one line, for an empty search, a refusal, or an answer that is no such XML.
    """
    own = Path(folder) / settings_digest(query.term, query.from_day, query.to_day, query.n_max)
    own.mkdir(parents=True, exist_ok=True)
    client = _Client(access)
    pmids = _searched(query, client, own)
    parts = [pmids[i : i + BATCH] for i in range(0, len(pmids), BATCH)]
    progress, frames = Progress("batches", len(parts)), []
    for i, part in enumerate(parts):
        path = own / f"{i:05d}.xml"
        frames.append(_part(client, part, path))
        progress.step(i + 1)
    found = pd.concat(frames, ignore_index=True).drop_duplicates("pmid")
    missing = len(pmids) - len(found)
    if missing:
        LOGGER.info("%d of %d articles have no abstract", missing, len(pmids))
    if found.empty:
        raise ValueError(f"query {query.term!r}: none of {len(pmids)} articles has an abstract")
    order = found["pmid"].astype(int).sort_values().index
    return found.loc[order].reset_index(drop=True)


def _searched(query: Query, client: "_Client", folder: Path) -> list[str]:
    """The PMIDs of a query, asked once."""
    path = folder / "pmids.json"
    if path.exists():
        return list(json.loads(path.read_text())["pmids"])
    wanted = {"db": "pubmed", "term": query.term, "datetype": "pdat", "mindate": query.from_day,
              "maxdate": query.to_day, "retmax": query.n_max, "usehistory": "y"}  # fmt: skip

    def read(content: bytes) -> list[str]:
        root = parsed(content, "eSearchResult")
        complaint = root.findtext("ERROR")
        if complaint:
            raise ValueError(f"query {query.term!r}: PubMed says {complaint!r}")
        return [str(one.text) for one in root.iterfind("IdList/Id")]

    pmids = client.ask("esearch.fcgi", wanted, read)
    if not pmids:
        raise ValueError(
            f"query {query.term!r} from {query.from_day} to {query.to_day} finds no article; "
            "allowed is one that finds some"
        )
    record = {"pmids": pmids, "query": vars(query), "day": _today()}
    _write(path, json.dumps(record, indent=1).encode())
    return pmids


def _part(client: "_Client", pmids: Sequence[str], path: Path) -> pd.DataFrame:
    """One batch: from its file if that is whole, else from PubMed."""
    checksum = path.with_suffix(".sha256")
    if path.exists() and checksum.exists() and file_sha256(path) == checksum.read_text():
        day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
        return articles(path.read_bytes(), day)
    wanted = {"db": "pubmed", "id": ",".join(pmids), "retmode": "xml", "rettype": "abstract"}
    content = client.ask("efetch.fcgi", wanted, lambda one: _checked(one, pmids))
    _write(path, content)
    _write(checksum, hashlib.sha256(content).hexdigest().encode())
    return articles(content, _today())


def _checked(content: bytes, pmids: Sequence[str]) -> bytes:
    """An answer that has only articles which were asked for."""
    given = {row.findtext(".//PMID") for row in parsed(content, "PubmedArticleSet")}
    odd = given - set(pmids)
    if odd or not given:
        raise _PassingError(f"answer has {len(given)} articles, {len(odd)} of them not asked for")
    return content


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class _Client:
    """Asks at the rate that is allowed, and again after failures that may pass."""

    def __init__(self, access: Access) -> None:
        self.access, self.session, self.last = access, requests.Session(), 0.0

    def ask(self, service: str, wanted: Mapping[str, Any], read: Callable[[bytes], Any]) -> Any:
        access = self.access

        def pause(state: Any) -> float:
            error = state.outcome.exception()
            said = error.wait_s if isinstance(error, _PassingError) else None
            return said if said is not None else access.pause_s * 2 ** (state.attempt_number - 1)

        retrying = Retrying(
            stop=stop_after_attempt(access.attempts),
            wait=pause,
            retry=retry_if_exception_type(_PassingError),
            sleep=access.sleep,
            reraise=True,
        )
        try:
            return retrying(lambda: read(self._once(service, wanted)))
        except _PassingError as error:
            raise ValueError(
                f"{access.address}/{service}: {error}, {access.attempts} times in a row; try later"
            ) from None

    def _once(self, service: str, wanted: Mapping[str, Any]) -> bytes:
        access = self.access
        rate = _RATES[bool(access.key)]
        access.sleep(max(0.0, self.last + 1 / rate - time.monotonic()))
        self.last = time.monotonic()
        who = {"tool": TOOL, "email": access.email} | (
            {"api_key": access.key} if access.key else {}
        )
        try:
            # POST: 200 PMIDs are too long for an address, and no address with a key gets logged.
            answer = self.session.post(
                f"{access.address}/{service}", data={**wanted, **who}, timeout=_SECONDS
            )
        except requests.RequestException as error:
            raise _PassingError(f"no answer ({type(error).__name__})") from None
        if answer.status_code in _PASSING:
            after = answer.headers.get("Retry-After", "")
            wait = float(after) if after.isdigit() else None
            raise _PassingError(f"status {answer.status_code}", wait)
        if answer.status_code != 200:
            raise ValueError(
                f"{access.address}/{service}: status {answer.status_code}; allowed is 200: check "
                "the query, NCBI_EMAIL and NCBI_API_KEY"
            )
        return answer.content


def parsed(content: bytes, root: str) -> ElementTree.Element:
    """The XML of an answer, in which no entity is expanded and nothing is fetched.

    Args:
        content: the answer.
        root: name of its outermost element.

    Raises:
        ValueError: for entities, or another root.
        _PassingError: for XML that breaks off.
    """
    try:
        # PubMed's answers name their document type; it is never read.
        found = SafeTree.fromstring(content, forbid_dtd=False, forbid_entities=True)
    except DefusedXmlException as error:
        raise ValueError(f"answer holds a forbidden construct ({type(error).__name__})") from None
    except ElementTree.ParseError as error:
        raise _PassingError(f"answer is no whole XML ({error})") from None
    if found.tag != root:
        raise ValueError(f"answer is <{found.tag}>; allowed is <{root}>")
    return found


def articles(content: bytes, day: str) -> pd.DataFrame:
    """Articles of an answer of efetch; those without an abstract are left out.

    Args:
        content: XML, a PubmedArticleSet.
        day: on which it was fetched.
    """
    rows = []
    for one in parsed(content, "PubmedArticleSet").iterfind("PubmedArticle"):
        citation = one.find("MedlineCitation")
        article = None if citation is None else citation.find("Article")
        if citation is None or article is None:
            continue
        sections = [_text(part) for part in article.iterfind("Abstract/AbstractText")]
        words = [_text(part) for part in citation.iterfind("KeywordList/Keyword")]
        pmid = citation.findtext("PMID", "")
        if any(sections):
            row = (pmid, _text(article.find("ArticleTitle")), " ".join(filter(None, sections)),
                   article.findtext("Journal/Title", ""), "; ".join(filter(None, words)),
                   f"https://pubmed.ncbi.nlm.nih.gov/{pmid}/", day)  # fmt: skip
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _text(element: ElementTree.Element | None) -> str:
    """All text of an element, that of its marked parts too, in one line."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
