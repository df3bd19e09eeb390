from starlette.routing import Route
from postroom.sandbox.world import World
def page_routes(world: World) -> list[Route]:
    return []
