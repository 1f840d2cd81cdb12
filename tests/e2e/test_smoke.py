def test_a_portrait_is_made_stored_and_paid_for(studio):
    job = studio.run("a lighthouse keeper", kind="portraits")

    assert job["status"] == "succeeded"
    assert studio.credits() == {"available": 90, "held": 0, "spent": 10}
