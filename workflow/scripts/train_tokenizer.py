"""Train a byte-level BPE tokenizer on invented text or on fetched abstracts."""

from patchwork import tables
from patchwork.jobs.log import job_log
from patchwork.language import abstracts, tokens


def main(*, texts: str, vocabulary: int, tokenizer: str) -> None:
    frame = tables.read(texts)
    found = frame["text"] if "text" in frame else abstracts.texts(frame)
    tokens.save(tokens.train(found, vocabulary), tokenizer)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            texts=snakemake.input.texts,
            vocabulary=snakemake.params.vocabulary,
            tokenizer=snakemake.output.tokenizer,
        )
