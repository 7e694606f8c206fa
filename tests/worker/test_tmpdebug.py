import time
from contextlib import ExitStack
from tests.worker.test_supervisor_ray import WHERE
def test_dbg(gateway_double, container):
    doubles = [gateway_double(workers=1), gateway_double(workers=1)]
    doubles[1].ray_token = "s" * 64
    driver = WHERE.replace("NODES", "2").replace("+ 30", "+ 15") + """
if len(nodes) < 2:
    for n in ray.nodes(): print({k: n[k] for k in ("NodeID", "Alive", "NodeManagerAddress", "Resources")})
    print(ray.available_resources())
    import glob, shutil
    tmp = os.environ["TMPDIR"].rsplit("/", 2)[0]
    for d in glob.glob("/tmp/fg-*/r/session_latest/"):
        shutil.copytree(d + "logs", "/tmp/exp/logs/" + d.split("/")[2], dirs_exist_ok=True)
    time.sleep(1)
finish()"""
    with ExitStack() as stack:
        cs = [stack.enter_context(container(double, index, driver=driver, ray=None)) for double in doubles for index in (0, 1)]
        for p in cs:
            assert p.wait(90) == 0
    for d in doubles:
        print(d.log(0)); print("W", d.log(1)); print([(e.phase, e.index, str(e.time)) for e in d.events if e.type == "attempt"])
