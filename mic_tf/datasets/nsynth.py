"""TFDS's own `nsynth` builder: its downloads, its Beam pipeline, its errors."""

import contextlib
import os
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tensorflow_datasets.core.download import download_manager, extractor, resource

from mic_tf import files
from mic_tf.datasets import beam_options as beam_flags
from mic_tf.datasets import catalogue, names, preparation, replacing
from mic_tf.datasets.downloads import Download, fetch
from mic_tf.errors import UserError
from mic_tf.taxonomy import NSYNTH_SPLIT_NOTES

_COPIES_ON_DISK = 2
"""The archives are unpacked, then written as records of about the same size."""

_GANSYNTH_SPLITS = "nsynth-gansynth_splits.csv"


def prepare(
    name: names.DatasetName,
    data_dir: str,
    *,
    downloads: str = "",
    beam_options: str = "",
    num_shards: int = 0,
    overwrite: bool = False,
) -> None:
    """Prepares `nsynth/full` or `nsynth/gansynth_subset`, or finds it prepared.

    Args:
      name: the data set.
      data_dir: folder of prepared sets.
      downloads: folder with archives downloaded by hand; empty: `downloads/manual`
        in `data_dir`.
      beam_options: pipeline options, separated by commas or spaces.
      num_shards: record files of each split; 0: by size.
      overwrite: prepare it anew where it is there; the set that is there stays until
        the new one is whole; in an object store, until its archives are there.

    Raises:
      UserError: apache-beam is missing, a download is refused or damaged, the disk is
        too small, an option is wrong, another process prepares the same set.
    """
    if name.config == "gansynth_subset":
        logging.warning(
            "nsynth/gansynth_subset has the same instruments in train, valid and test: "
            "results on it say nothing about new instruments"
        )
    if not overwrite and _is_prepared(name, data_dir, num_shards):
        return
    options = _pipeline_options(beam_options)
    root = os.path.expanduser(data_dir)
    version = f":{name.version}" if name.version else ""
    builder = tfds.builder(f"nsynth/{name.config}{version}", data_dir=root)
    local_root = os.path.expanduser("~/tensorflow_datasets")
    download_dir = os.path.join(
        local_root if files.is_remote(root) else root, "downloads"
    )
    by_hand = downloads or os.path.join(download_dir, "manual")
    folder = str(builder.data_dir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(preparation.one_at_a_time(folder))
        replacing.settle(os.path.dirname(folder))
        # Another process may have prepared it since, or been killed as it replaced it.
        if not overwrite and _is_prepared(name, data_dir, num_shards):
            return
        _download(builder, root, download_dir, by_hand)
        _warn_of_memory(options)
        if replacing.is_whole(folder):
            logging.info("replacing %s", folder)
            size = builder.info.dataset_size
            what = "the new set, while the old one is there"
            preparation.say_sizes(root, size, what)
            stack.enter_context(replacing.taken_away(folder))
        preparation.remove_leftovers(folder)
        builder = tfds.builder(f"nsynth/{name.config}{version}", data_dir=root)
        _generate(builder, download_dir, by_hand, options, num_shards)
        _compare_with_published(builder)


def _is_prepared(name: names.DatasetName, data_dir: str, num_shards: int) -> bool:
    folder = catalogue.find_prepared(name, data_dir)
    if folder:
        logging.info("%s is prepared already; using it", folder)
        preparation.warn_of_shards(folder, num_shards)
    return bool(folder)


def needed_files(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """URL and size, checksum and name of each file that the configuration reads."""
    subset = "gansynth" in builder.builder_config.name
    return {
        url: info
        for url, info in builder.url_infos.items()
        if subset or info.filename != _GANSYNTH_SPLITS
    }


def _download(
    builder: tfds.core.DatasetBuilder, root: str, download_dir: str, by_hand: str
) -> None:
    """Fetches what is neither in TFDS's cache nor in the folder of one's own."""
    missing = []
    total = 0
    for url, info in needed_files(builder).items():
        total += info.size
        if _in_tfds_cache(url, info.checksum, builder.name, download_dir):
            logging.info("%s: in TFDS's cache", info.filename)
            continue
        download = Download(url, os.path.join(by_hand, info.filename), info.size)
        if download.missing_bytes():
            missing.append(download)
        else:
            _check_size(download)
            logging.info("%s: found in %s", info.filename, by_hand)
    to_fetch = sum(download.missing_bytes() for download in missing)
    if missing:
        preparation.say_sizes(
            root,
            to_fetch + _COPIES_ON_DISK * total,
            f"{preparation.readable(to_fetch)} to download, and "
            f"{_COPIES_ON_DISK} x {preparation.readable(total)} to unpack and write",
        )
    for download in missing:
        fetch(download)


def _in_tfds_cache(url: str, checksum: str, dataset: str, download_dir: str) -> bool:
    file_name = resource.get_dl_fname(url, checksum)
    root = epath.Path(download_dir)
    return any(
        resource.is_locally_cached(folder / file_name)
        for folder in (root / dataset, root)
    )


def _check_size(download: Download) -> None:
    found = os.path.getsize(download.path)
    if found != download.size:
        raise UserError(
            f"{download.path}: {found:,} bytes, {download.size:,} expected; "
            "delete it and run the same command again"
        )


def _generate(
    builder: tfds.core.DatasetBuilder,
    download_dir: str,
    by_hand: str,
    options: Any,
    num_shards: int,
) -> None:
    config = tfds.download.DownloadConfig(
        manual_dir=by_hand if os.path.isdir(by_hand) else None,
        beam_options=options,
        num_shards=num_shards or None,
        try_download_gcs=False,
        force_checksums_validation=False,
    )
    try:
        with preparation.faults_of_disk("nsynth"):
            builder.download_and_prepare(
                download_dir=download_dir, download_config=config
            )
    except download_manager.NonMatchingChecksumError as error:
        raise UserError(
            f"{_first_line(error)} delete the file and run the same command again"
        ) from error
    except extractor.ExtractError as error:
        raise UserError(
            f"{_first_line(error)}; delete that file and run the same command again"
        ) from error


def _compare_with_published(builder: tfds.core.DatasetBuilder) -> None:
    """Says how much of NSynth's published notes the prepared set has."""
    if builder.builder_config.name != "full":
        return
    for split, published in NSYNTH_SPLIT_NOTES.items():
        notes = builder.info.splits[split].num_examples
        level = logging.INFO if notes >= published else logging.WARNING
        text = "%s: %s of the published %s notes"
        logging.log(level, text, split, f"{notes:,}", f"{published:,}")


def _pipeline_options(text: str) -> Any:
    return beam_flags.pipeline_options(
        text,
        "nsynth/full is prepared",
        instead="use --dataset=nsynth_jsonwav, which needs no Beam and a third of the "
        "download",
    )


def _warn_of_memory(options: Any) -> None:
    from apache_beam.options.pipeline_options import StandardOptions

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    runner = options.view_as(StandardOptions).runner
    if runner == "DirectRunner" and memory < 100e9:
        logging.warning(
            "Beam's DirectRunner sorts in memory: all of nsynth/full takes about 80 GB "
            "there, this machine has %s; with another runner in --beam_options, or "
            "with --dataset=nsynth_jsonwav, a small machine is enough",
            preparation.readable(memory),
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
