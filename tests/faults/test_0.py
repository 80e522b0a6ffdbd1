from faults import workload
def test_0(scene):
    scene.open(pool=3); scene.operate(); scene.warm_up(3)
    scene.submit(workload.batch("x"))
    scene.finish(seconds=60)
    scene.check("plain")
    print(scene.harness.call("writes"))
    print(scene.harness.call("operator", name="a")["log"][-3000:])
    print(scene.harness.call("operator", name="a")["starts"])
