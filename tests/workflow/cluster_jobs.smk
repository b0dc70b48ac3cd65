# Small jobs that show what a queue does with them.
rule say:
    output:
        "jobs/said.txt",
    threads: 3
    resources:
        mem_mb=700,
        runtime=90,
    shell:
        "echo said > {output}"


rule gpu:
    output:
        "jobs/gpu_{n}.txt",
    resources:
        gpu=1,
        mem_mb=500,
        runtime=5,
    shell:
        "start=$(date +%s.%N); sleep 5; echo $CUDA_VISIBLE_DEVICES $start $(date +%s.%N) > {output}"


rule sleep:
    output:
        "jobs/sleep_{n}.txt",
    resources:
        mem_mb=500,
        runtime=5,
    shell:
        "echo slept >> jobs/tries_{wildcards.n}.txt; sleep 20; echo done > {output}"


# Needs about 900 MB with the two Snakemakes of a job.
rule hungry:
    output:
        "jobs/hungry.txt",
    resources:
        mem_mb=lambda wildcards, attempt: 600 * attempt,
        runtime=5,
    shell:
        "python3 -c \"import time; held = bytearray(b'x') * 600_000_000; time.sleep(10)\" "
        "&& echo {resources.mem_mb} > {output}"
