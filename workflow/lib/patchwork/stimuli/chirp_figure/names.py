"""Names of the regions of a figure; apart from what draws them, which needs Matplotlib."""

REGIONS = (
    "margin",
    "background",
    "chirp",
    "frame",
    "tick_labels",
    "axis_labels",
    "title",
    "colour_bar",
    "colour_bar_labels",
)
REGION = {name: index for index, name in enumerate(REGIONS)}
