# Backbones: from the hub, from a file, pre-trained here, or random; and pictures for pre-training.


rule gather_pictures:
    input:
        folder=picture_folder,
    output:
        pictures="<results>/{study}/pictures.h5",
    log:
        "<logs>/{study}/gather_pictures.log",
    benchmark:
        "<benchmarks>/{study}/gather_pictures.tsv"
    priority: 20
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=lookup("studies/{study}/pictures", within=config),
        colour=needs_colour,
        code=code_of("gather_pictures.py"),
    script:
        "../scripts/gather_pictures.py"


rule prepare_backbone:
    input:
        pictures=pictures_of,
    output:
        backbone="<results>/{study}/backbones/{backbone}/seed{seed}.safetensors",
        snapshots="<results>/{study}/backbones/{backbone}/seed{seed}_snapshots.safetensors",
        log="<results>/{study}/backbones/{backbone}/seed{seed}_training.parquet",
    log:
        "<logs>/{study}/backbones/{backbone}/prepare_backbone_seed{seed}.log",
    benchmark:
        "<benchmarks>/{study}/backbones/{backbone}/prepare_backbone_seed{seed}.tsv"
    # Preparing a backbone is on the path of everything else, so it starts first.
    priority: 10
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        backbone=lookup("studies/{study}/backbones/{backbone}", within=config),
        image_px=lookup("studies/{study}/stimuli/common/image_px", within=config),
        checkpoints=checkpoints_of,
        events=events_of,
        code=code_of("prepare_backbone.py"),
    script:
        "../scripts/prepare_backbone.py"
