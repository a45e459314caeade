import pytest

from inference.batch import sealing


def test_a_piece_opens_where_it_was_closed_and_nowhere_else():
    key = sealing.new_key()
    piece = sealing.Box(key).close(b"What is a batch?", b"request:0")
    assert b"batch" not in piece
    assert len(piece) == len(b"What is a batch?") + sealing.OVERHEAD
    assert sealing.Box(key).open(piece, b"request:0") == b"What is a batch?"
    for box, sealed, label in [
        (sealing.Box(key), piece, b"request:1"),
        (sealing.Box(sealing.new_key()), piece, b"request:0"),
        (sealing.Box(key), piece[:-1], b"request:0"),
        (sealing.Box(key), b"", b"request:0"),
    ]:
        with pytest.raises(sealing.Unopenable):
            box.open(sealed, label)
