from postroom.ledger import Ledger, LaneLimits, Rules
from postroom.mail import Mail
import pytest
from postroom.outcome import *

def test_x(connection):
    l=Ledger(connection)
    m=Mail(sender="A@c.de",to="b@c.de",text="x")
    print(l.take_in("j1",m,"k",None,now=1000))
    print(l.take_in("j2",m,"k",None,now=1000))
    print(l.read("j1"))
    print(connection.lrange("postroom",0,-1))
    j=l.claim("a@c.de","t1",60,now=1001); print(j)
    print(l.mark(j,"crid",60,now=1002))
    from postroom.retry import decide, Policy
    o=Accepted(answer=Answer(http_status=202,request_id="r"))
    print(l.settle(j,decide(o,0,Policy(),lambda:.5),o,12,next_token="t2",lease_s=60,now=1100))
    print(l.read("j1"))
    print(l.tick("w",8,60,now=2000))
    print(l.find(None,"b@c.de",None,None,10))
    for k in connection.keys(): print(k, connection.type(k))
