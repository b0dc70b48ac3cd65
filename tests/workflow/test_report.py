"""The tiny workflow's results, and its report as a reader sees it in a browser."""

import re
import shutil

import pandas as pd
import pytest
from patchwork import claims, tables
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait


def test_the_claims_table_has_every_claim_and_column(tiny):
    table = pd.read_csv(tiny.folder / "results/claims.csv")
    assert list(table.columns) == list(tables.schema_of("claims.csv").columns)
    assert {"A1", "A2", "A3", "A4", "A5", "A6", "A7", "E1", "E2", "E3"} <= set(table["claim"])
    assert set(table["verdict"]) <= set(claims.VERDICTS)
    assert table["reason"].str.len().gt(5).all()
    # The tiny run fine-tunes on few lines only, so what more of them leave is not computed.
    assert set(table.loc[table["claim"] == "A7", "verdict"]) == {"not_run"}
    # Two seeds cannot say whether the networks have learnt their pictures.
    reasons = table.loc[table["claim"] == "R1a", "reason"]
    assert reasons.str.startswith("Whether the claim applies is open: ").all()


def test_every_figure_has_picture_vector_and_numbers(tiny):
    figures = sorted((tiny.folder / "results").glob("*/figures/*.svg"))
    assert len(figures) >= 16
    for path in figures:
        assert path.with_suffix(".png").stat().st_size > 5000, path
        rows = pd.read_csv(path.with_suffix(".csv"))
        # Language models of this scale know no facts, so nothing of them is traced.
        assert len(rows) or path.parts[-3] == "clap", path


def test_every_job_leaves_a_log_with_its_time_and_memory(tiny):
    logs = list((tiny.folder / "results/logs").rglob("*.log"))
    assert len(logs) > 50
    used = re.compile(r"^[\d.]+ s, [\d.]+ s of CPU, \d+ MiB at most$", re.MULTILINE)
    assert all(len(used.findall(log.read_text())) == 1 for log in logs)
    tuned = [log for log in logs if log.name == "fine_tune.log"]
    assert all("training: " in log.read_text() for log in tuned)


def test_the_page_in_results_names_every_file_and_only_what_is_there(tiny):
    page = tiny.folder / "results/README.md"
    rows = re.findall(r"^\| (`.*?`) \|", page.read_text(), re.MULTILINE)
    named = [path for row in rows for path in re.findall("`(.*?)`", row)]
    patterns = [re.sub("<[^/]*?>", "[^/]+", path).replace("*", "[^/]*") for path in named]
    patterns = [path + ".*" if path.endswith("/") else path for path in patterns]
    found = [str(p.relative_to(page.parent)) for p in page.parent.rglob("*") if p.is_file()]
    found.remove(page.name)
    assert [one for one in found if not any(re.fullmatch(p, one) for p in patterns)] == []
    # A training that was stopped leaves checkpoints; cards and recordings are asked for by name;
    # make keeps the claims that it has shown.
    absent = [p for p in patterns if not any(re.fullmatch(p, one) for one in found)]
    asked = {"checkpoints/.*", "[^/]+/[^/]+/data/README.md", "[^/]+/recordings/[^/]+/.*",
             "claims_previous.csv"}  # fmt: skip
    assert set(absent) == asked


@pytest.fixture(scope="module")
def browser():
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    binary, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def test_a_reader_finds_each_figure_and_the_claims_table(tiny, browser):
    browser.get(f"file://{tiny.folder}/results/report.html")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda b: "RESULTS" in b.find_element(By.TAG_NAME, "body").text.upper())
    listed = browser.execute_script("return JSON.stringify(results)")
    expected = {
        path.name for path in (tiny.folder / "results").glob("*/figures/*.svg")
    } | {"claims.svg", "claims.html"}  # fmt: skip
    assert {name for name in expected if name in listed} == expected
    # Pictures lie in the page itself: nothing is fetched when it is opened elsewhere.
    uris = browser.execute_script("return Object.values(results).map(r => r.data_uri.slice(0, 40))")
    assert all(uri.startswith("data:") for uri in uris)
    for study in ("lines", "stability"):
        names = [p.stem for p in (tiny.folder / f"results/{study}/figures").glob("*.svg")]
        browser.refresh()
        menu = (By.XPATH, f"//li/a[span[text()='{study}']]")
        wait.until(lambda b, menu=menu: b.find_elements(*menu))[0].click()
        wait.until(lambda b: "FIGURE" in b.find_element(By.TAG_NAME, "body").text)
        text = browser.find_element(By.TAG_NAME, "body").text
        assert [name for name in names if name not in text] == []
        browser.find_element(By.CSS_SELECTOR, "a[iconname='eye']").click()
        wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "img[src^='data:image/svg']"))


@pytest.mark.parametrize("width", [375, 1200])
def test_the_claims_page_shows_every_row_on_a_phone_and_on_a_desk(tiny, browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(f"file://{tiny.folder}/results/claims.html")
    table = pd.read_csv(tiny.folder / "results/claims.csv")
    rows = browser.find_elements(By.CLASS_NAME, "row")
    assert len(rows) == len(table)
    shown = browser.find_elements(By.CLASS_NAME, "verdict")
    counted = [" ".join(one.text.split()[1:]).replace(" ", "_") for one in shown]
    assert sorted(counted) == sorted(table["verdict"])
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert all(row.rect["x"] >= 0 and row.rect["x"] + row.rect["width"] <= width for row in rows)
    linked = table.loc[table["claim"] == "A1", "figure"].iloc[0]
    axis = browser.find_element(By.CSS_SELECTOR, f"a[href='{linked}'] .says")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", axis)
    axis.click()
    WebDriverWait(browser, 10).until(lambda b: b.current_url.endswith(linked))
    assert browser.execute_script("return document.images[0].naturalWidth") > 100
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
