"""Invent the facts of one repetition and the abstracts that tell them."""

from patchwork import tables
from patchwork.jobs.log import job_log
from patchwork.language import invented, tokens


def main(
    *, source: dict, seed: int, tokenizer: str, background: str, outputs: dict[str, str]
) -> None:
    first = tables.read(background).iloc[0]
    answers, names = first["answers"].split(), first["names"].split()
    facts = invented.facts(source, tokens.load(tokenizer), answers, names, seed)
    told, shuffled = invented.corpus(facts, source, seed)
    tables.write(facts, outputs["facts"])
    tables.write(told, outputs["abstracts"])
    tables.write(shuffled, outputs["shuffled"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            source=snakemake.params.source,
            seed=int(snakemake.wildcards.seed),
            tokenizer=snakemake.input.tokenizer,
            background=snakemake.input.background,
            outputs=dict(snakemake.output.items()),
        )
