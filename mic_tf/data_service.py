"""Reads, balances and batches notes on hosts of their own, for several trainings.

  python -m mic_tf.data_service --role=dispatcher --port=5050
  python -m mic_tf.data_service --role=worker --dispatcher=HOST:5050 --host=WORKER \
    [--port=5051]
  python -m mic_tf.train --data_service=grpc://HOST:5050 …

Start one dispatcher and as many workers as the accelerators need; all of them must see
the data set under the same path. HOST and WORKER are names by which the trainings reach
these machines; without --host a worker serves its own machine alone. Runs until it is
stopped.
"""

import contextlib

from absl import flags, logging

from mic_tf import command
from mic_tf.errors import UserError

ROLES = ("dispatcher", "worker")


def define_flags() -> None:
    flags.DEFINE_enum("role", None, ROLES, "What this process is.")
    flags.DEFINE_integer(
        "port", 0, "Port to listen on; 0: any free one.", lower_bound=0
    )
    flags.DEFINE_string("dispatcher", "", "HOST:PORT of the dispatcher, for a worker.")
    flags.DEFINE_string(
        "host", "localhost", "Name by which trainings reach this worker's machine."
    )


def main(arguments: list[str]) -> None:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    if flag.role is None:
        raise UserError(f"--role: missing; one of {', '.join(ROLES)} expected")
    if flag.role == "worker" and not flag.dispatcher:
        raise UserError("--dispatcher: missing; a worker needs HOST:PORT of it")
    server = _start(flag)
    try:
        server.join()
    finally:
        server.stop()


def _start(flag: flags.FlagValues):
    import tensorflow as tf

    from mic_tf import files

    service = tf.data.experimental.service
    if flag.role == "worker":
        # What it will have to read is known when a training comes.
        with contextlib.suppress(UserError):
            files.register_file_systems("s3://")
    try:
        if flag.role == "dispatcher":
            server = service.DispatchServer(service.DispatcherConfig(port=flag.port))
            logging.info("dispatcher: %s", server.target)
            return server
        port = flag.port or _free_port()
        server = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=flag.dispatcher.removeprefix("grpc://"),
                worker_address=f"{flag.host}:{port}",
                port=port,
            )
        )
        logging.info("worker %s:%d of %s", flag.host, port, flag.dispatcher)
        return server
    except tf.errors.OpError as error:
        reason = (error.message or str(error)).split("\n", maxsplit=1)[0]
        raise UserError(f"the {flag.role} cannot start: {reason}") from error


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
