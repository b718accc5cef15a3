#include "engine/engine.h"
#include "engine/pytest/pytest.h"

const struct engine *const engines[] = {&engine_pytest, NULL};
