/* Every kernel for both element types: the templates are included once for each. */
#include "common.h"

#define ELEMENT bfloat16
#include "attend.h"
#include "draw.h"
#include "rotate.h"
#include "gate.h"
#include "logprobs.h"
#include "norm.h"
#include "siblings.h"
#undef ELEMENT
#define ELEMENT float
#include "attend.h"
#include "draw.h"
#include "rotate.h"
#include "gate.h"
#include "logprobs.h"
#include "norm.h"
#include "siblings.h"
