"""The log tail: new warnings once, everything else left in the logs."""

from burnish.ops.supervisor.log_tail import LogTail


def test_warnings_in_logs_are_repeated_once_and_the_rest_is_left_there(tmp_path):
    log = tmp_path / "serving.log"
    log.write_text("ERROR from an earlier run\n")
    tail = LogTail({"serving": log})
    with log.open("a") as file:
        file.write("INFO all is well\nWARNING lag is 12 events\nWARNING lag is 15 events\nERROR ha")
    assert tail.new_warnings() == [("serving", "WARNING lag is 12 events")]
    with log.open("a") as file:
        file.write("lf a line\n")
    assert tail.new_warnings() == [("serving", "ERROR half a line")]
