# pg_failsafe: built with PGXS.
#
#   make                 the library and the install script
#   make install         into the PostgreSQL that PG_CONFIG names
#   make installcheck    regression and isolation tests in a running server
#   make ASSERT=1        with PostgreSQL's assertions compiled in
#   make COVERAGE=1      instrumented for gcov
#   make FAULTS=1        with fault points, for crash tests only
#
# Every .c below src/ is part of the library.  The install script is put
# together from the files that src/install.order lists; the grants that end it
# are compiled from src/grants.matrix.

PG_CONFIG ?= pg_config

MODULE_big = pg_failsafe
EXTENSION = pg_failsafe

ROOT := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(ROOT)/pg_failsafe.control)
EXTENSION_SQL = pg_failsafe--$(EXTVERSION).sql

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
DATA_built = $(EXTENSION_SQL)
DATA = $(filter-out %/$(EXTENSION_SQL),$(sort $(wildcard sql/updates/*.sql)))

# The test that installs the extension comes first, the others in name order.
TESTS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS = $(filter install,$(TESTS)) $(filter-out install,$(TESTS))
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation --load-extension=$(EXTENSION)

PG_CPPFLAGS = -I$(srcdir)/src -DFAILSAFE_VERSION="\"$(EXTVERSION)\""
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -MMD -MP

# Before 16 every symbol of a library is global: ours must not meet another's.
SHLIB_LINK += -Wl,-Bsymbolic

ifdef ASSERT
PG_CPPFLAGS += -DUSE_ASSERT_CHECKING
endif
ifdef FAULTS
PG_CPPFLAGS += -DFAILSAFE_FAULTS
endif
ifdef COVERAGE
PG_CFLAGS += --coverage -O0
SHLIB_LINK += --coverage
endif

EXTRA_CLEAN = build $(OBJS:.o=.d) $(OBJS:.o=.gcno) $(OBJS:.o=.gcda) results \
	output_iso tmp_check regression.diffs regression.out

# No function here is small enough to gain from being inlined into a query,
# so the bitcode is not built.
override with_llvm := no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

ifdef COVERAGE
# Distributions set _FORTIFY_SOURCE, which warns when there is no optimization.
override CPPFLAGS += -U_FORTIFY_SOURCE
endif

-include $(OBJS:.o=.d)

# Objects are built again when the flags or the server's version change.
BUILD_KEY = $(VERSION) $(CC) $(CFLAGS) $(CPPFLAGS)

build/flags: FORCE
	@mkdir -p build
	@printf '%s\n' '$(subst ','\'',$(BUILD_KEY))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(BUILD_KEY))' > $@

$(OBJS): build/flags

# src/grants.matrix is written out as SQL, whatever the order of its lines.
build/grants.sql: src/grants.matrix src/grants.awk
	@mkdir -p build
	awk -f src/grants.awk src/grants.matrix > $@.tmp && mv $@.tmp $@

SQL_PARTS := $(addprefix src/,$(shell sed -e 's/\#.*//' -e '/^[[:space:]]*$$/d' $(ROOT)/src/install.order))

$(EXTENSION_SQL): pg_failsafe.control src/install.order $(SQL_PARTS) build/grants.sql
	@( printf '%s\n' '\echo Use "CREATE EXTENSION pg_failsafe" to load this file. \quit' && \
	   for part in $(SQL_PARTS) build/grants.sql; do \
	       printf '\n-- ==== %s\n\n' "$$part" && cat "$$part" || exit 1; \
	   done ) > $@.tmp && mv $@.tmp $@

# "make print-REGRESS" tells scripts what a variable holds.
print-%:
	@echo $($*)

FORCE:
.PHONY: FORCE
