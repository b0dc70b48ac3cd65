# Backbones: from the hub, from a file, pre-trained here, or random; and pictures for pre-training.
include: "backbone_inputs.smk"


rule gather_pictures:
    input:
        folder=picture_folder,
    output:
        pictures="<results>/{study}/pictures.h5",
    log:
        "<logs>/{study}/gather_pictures.log",
    priority: 20
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=120,
    params:
        settings=from_config("studies/{study}/pictures"),
        colour=of_study(settings.needs_colour),
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
    # Preparing a backbone is on the path of everything else, so it starts first.
    priority: 10
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        backbone=from_config("studies/{study}/backbones/{backbone}"),
        image_px=from_config("studies/{study}/stimuli/common/image_px"),
        checkpoints=path_of(
            "<results>/checkpoints/{study}/backbones/{backbone}/seed{seed}"
        ),
        events=path_of("<results>/tensorboard/{study}/backbones/{backbone}/seed{seed}"),
        code=code_of("prepare_backbone.py"),
    script:
        "../scripts/prepare_backbone.py"
