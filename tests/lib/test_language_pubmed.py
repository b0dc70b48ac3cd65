"""The PubMed client against a local server that answers as NCBI does, and as it should not."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pandas as pd
import pytest
from patchwork.language import abstracts, pubmed

QUERY = pubmed.Query("epilepsy[title]", "2000/01/01", "2020/12/31", 500)
HEAD = (
    '<?xml version="1.0" ?><!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st '
    'January 2019//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_190101.dtd">'
)


def article(pmid: str) -> str:
    if pmid == "2":  # a letter has no abstract
        return (
            f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>Letter"
            "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        )
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article><Journal><Title>'
        "Seizure</Title></Journal><ArticleTitle>Of <i>EEG</i> &amp; sleep.</ArticleTitle>"
        '<Abstract><AbstractText Label="AIM">One  &lt; two.</AbstractText>'
        '<AbstractText Label="END">Three<sup>2</sup>.</AbstractText></Abstract></Article>'
        "<KeywordList><Keyword>EEG</Keyword><Keyword>sleep</Keyword></KeywordList>"
        "</MedlineCitation><PubmedData><ArticleIdList><ArticleId>x</ArticleId></ArticleIdList>"
        "</PubmedData></PubmedArticle>"
    )


class Server:
    """Answers esearch and efetch; `faults` are given once each, before any good answer."""

    def __init__(self, n: int = 3) -> None:
        self.pmids = [str(i + 1) for i in range(n)][::-1]
        self.faults: list[tuple[int, dict, bytes]] = []
        self.asked: list[tuple[str, dict]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                wanted = {key: one[0] for key, one in parse_qs(body).items()}
                service = self.path.rpartition("/")[2]
                outer.asked.append((service, wanted))
                status, headers, content = outer.answer(service, wanted)
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, service: str, wanted: dict) -> tuple[int, dict, bytes]:
        if self.faults:
            return self.faults.pop(0)
        if service == "esearch.fcgi":
            ids = "".join(f"<Id>{one}</Id>" for one in self.pmids[: int(wanted["retmax"])])
            text = (
                f"<eSearchResult><Count>{len(self.pmids)}</Count><QueryKey>1</QueryKey>"
                f"<WebEnv>MCID_1</WebEnv><IdList>{ids}</IdList></eSearchResult>"
            )
            return 200, {}, text.encode()
        rows = "".join(article(one) for one in wanted["id"].split(","))
        return 200, {}, f"{HEAD}<PubmedArticleSet>{rows}</PubmedArticleSet>".encode()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def access(server: Server, waits: list[float] | None = None) -> pubmed.Access:
    address = f"http://127.0.0.1:{server.http.server_port}"
    sleep = (lambda _: None) if waits is None else waits.append
    return pubmed.Access("me@example.org", "secret", address, attempts=3, sleep=sleep)


def complaint(server: Server, tmp_path, **changes) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        pubmed.fetch(replace(QUERY, **changes), access(server), tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


def test_articles_with_an_abstract_are_fetched_whole(server, tmp_path):
    found = pubmed.fetch(QUERY, access(server), tmp_path)
    assert found["pmid"].tolist() == ["1", "3"]
    first = found.iloc[0]
    assert first["title"] == "Of EEG & sleep."
    assert first["abstract"] == "One < two. Three2."
    assert (first["journal"], first["keywords"]) == ("Seizure", "EEG; sleep")
    assert first["url"].endswith("/1/")
    assert len(first["retrieved"]) == 10
    service, wanted = server.asked[0]
    assert service == "esearch.fcgi"
    assert (wanted["mindate"], wanted["maxdate"]) == ("2000/01/01", "2020/12/31")
    assert (wanted["email"], wanted["api_key"]) == ("me@example.org", "secret")


def test_what_was_fetched_is_not_fetched_again_and_a_killed_job_goes_on(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(pubmed, "BATCH", 1)
    server.faults = []
    original, calls = server.answer, []

    def dies(service, wanted):
        calls.append(service)
        return original(service, wanted) if len(calls) < 3 else (400, {}, b"")

    server.answer = dies
    assert "status 400" in complaint(server, tmp_path)
    server.answer = original
    server.asked.clear()
    found = pubmed.fetch(QUERY, access(server), tmp_path)
    assert found["pmid"].tolist() == ["1", "3"]
    # Neither the search nor the first batch.
    assert [wanted["id"] for _, wanted in server.asked] == ["2", "1"]
    server.asked.clear()
    pd.testing.assert_frame_equal(pubmed.fetch(QUERY, access(server), tmp_path), found)
    assert server.asked == []


def test_a_damaged_part_is_fetched_again(server, tmp_path):
    found = pubmed.fetch(QUERY, access(server), tmp_path)
    (part,) = tmp_path.glob("*/00000.xml")
    whole = hashlib.sha256(part.read_bytes()).hexdigest()
    part.write_bytes(part.read_bytes()[:100])
    pd.testing.assert_frame_equal(pubmed.fetch(QUERY, access(server), tmp_path), found)
    assert hashlib.sha256(part.read_bytes()).hexdigest() == whole


def test_the_server_is_obeyed_when_it_says_how_long_to_wait(server, tmp_path):
    waits: list[float] = []
    server.faults = [(429, {"Retry-After": "7"}, b""), (503, {}, b"")]
    assert len(pubmed.fetch(QUERY, access(server, waits), tmp_path)) == 2
    assert 7.0 in waits
    assert 2.0 in waits  # the second pause without its word


def test_the_rate_is_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pubmed.time, "monotonic", lambda: 100.0)  # no answer takes any time
    waits: list[float] = []
    pubmed.fetch(QUERY, access(server, waits), tmp_path)
    assert max(waits) == pytest.approx(0.1)
    waits.clear()
    slow = replace(access(server, waits), key="")
    pubmed.fetch(replace(QUERY, n_max=2), slow, tmp_path)
    assert max(waits) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "fault",
    [
        (200, {}, b"<PubmedArticleSet><PubmedArticle>"),
        (200, {}, f"{HEAD}<PubmedArticleSet>{article('99')}</PubmedArticleSet>".encode()),
        (500, {}, b""),
    ],
)
def test_a_fault_that_passes_is_outlived_and_one_that_stays_is_said(fault, server, tmp_path):
    original = server.answer
    broken = {"efetch.fcgi": 1}

    def once(service, wanted):
        return fault if broken.pop(service, 0) else original(service, wanted)

    server.answer = once
    assert len(pubmed.fetch(QUERY, access(server), tmp_path)) == 2
    server.answer = lambda service, wanted: (
        fault if service == "efetch.fcgi" else original(service, wanted)
    )
    assert "3 times in a row" in complaint(server, tmp_path, n_max=2)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<PubmedArticleSet><PubmedArticle>&b;</PubmedArticle></PubmedArticleSet>"
)
OUTSIDE = (
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<PubmedArticleSet><PubmedArticle>&a;</PubmedArticle></PubmedArticleSet>"
)


@pytest.mark.parametrize("text", [BOMB, OUTSIDE])
def test_hostile_xml_is_refused(text, server, tmp_path):
    original = server.answer
    server.answer = lambda service, wanted: (
        (200, {}, text.encode()) if service == "efetch.fcgi" else original(service, wanted)
    )
    assert "forbidden construct" in complaint(server, tmp_path)


def test_an_empty_search_and_a_refused_one_are_said_in_one_line(server, tmp_path):
    server.pmids = []
    assert "finds no article" in complaint(server, tmp_path)
    said = b"<eSearchResult><ERROR>Search Backend failed</ERROR></eSearchResult>"
    server.faults = [(200, {}, said)]
    assert "Search Backend failed" in complaint(server, tmp_path, term="(")
    server.faults = [(200, {}, b"<html></html>")]
    assert "allowed is <eSearchResult>" in complaint(server, tmp_path, term="[")


def test_nobody_answers(tmp_path):
    nobody = pubmed.Access("me@example.org", address="http://127.0.0.1:9", attempts=2,
                           sleep=lambda _: None)  # fmt: skip
    with pytest.raises(ValueError, match="no answer"):
        pubmed.fetch(QUERY, nobody, tmp_path)


def test_no_email_is_said_before_anything_is_asked():
    with pytest.raises(ValueError, match="NCBI_EMAIL is ''"):
        pubmed.Access.of({})
    found = pubmed.Access.of({"NCBI_EMAIL": "me@example.org", "NCBI_API_KEY": "secret"})
    assert "secret" not in repr(found)


TABLE = pd.DataFrame({"Abstract": ["One.", None, "Two."], "PMID": ["1", "2", "3"]})


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet"])
def test_a_local_table_is_read_without_its_empty_abstracts(suffix, tmp_path):
    path = tmp_path / f"table{suffix}"
    {
        ".csv": lambda: TABLE.to_csv(path, index=False),
        ".xlsx": lambda: TABLE.to_excel(path, index=False),
        ".parquet": lambda: TABLE.to_parquet(path),
    }[suffix]()
    found = abstracts.read(path)
    assert list(found.columns) == list(abstracts.COLUMNS)
    assert found["abstract"].tolist() == ["One.", "Two."]
    assert found["pmid"].tolist() == ["1", "3"]
    assert abstracts.texts(found) == ["One.", "Two."]


def test_a_local_table_that_cannot_be_used_is_refused(tmp_path):
    def said(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            abstracts.read(tmp_path / name)
        return str(caught.value)

    assert "lacks the column 'abstract'" in said("one.csv", b"text\nhello\n")
    assert "holds no abstract" in said("two.csv", b"abstract\n \n")
    assert "allowed is .csv, .xlsx, .parquet" in said("three.doc", b"")
    assert "not readable" in said("four.xlsx", b"nothing")
    assert "not readable" in said("five.parquet", b"nothing")
