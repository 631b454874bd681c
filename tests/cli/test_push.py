def test_a_place_that_nothing_can_be_pushed_to_is_a_mistake_in_the_command(metta):
    outcome = metta("push", "ftp://host/runs", "walker")
    assert outcome.code == 2
    assert "unknown place to push to: 'ftp://'" in outcome.err


def test_a_run_that_is_not_there_is_not_found(metta):
    outcome = metta("push", "s3://bucket/runs", "walker", "--data-dir", "empty")
    assert outcome.code == 5
    assert "there is no run or checkpoint 'walker'" in outcome.err
