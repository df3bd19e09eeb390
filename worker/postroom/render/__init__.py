"""Templates: a name and variables in, subject and bodies out.

`Templates` renders in this process, for whoever wrote the templates. `Renderer` does the same in processes of its own,
which a template or a variable may bring down without harm to anything else.
"""

from postroom.render.renderer import Renderer
from postroom.render.templates import MAX_CHARACTERS, Templates

__all__ = ["MAX_CHARACTERS", "Renderer", "Templates"]
