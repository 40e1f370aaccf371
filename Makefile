# pg_failsafe: built with PGXS.
#
#   make                 the library and the install script
#   make install         into the PostgreSQL that PG_CONFIG names
#   make installcheck    regression and isolation tests in a running server
#   make ASSERT=1        with PostgreSQL's assertions compiled in
#   make COVERAGE=1      instrumented for gcov
#   make FAULTS=1        with fault points, for crash tests only
#   make freeze VERSION=1.2.3   keep the scripts of a release (docs/releasing.md)
#
# Every .c below src/ is part of the library.  The install script is put
# together from the files that src/install.order lists; the grants that end it
# are compiled from src/grants.matrix.  Update scripts take both from there too.

PG_CONFIG ?= pg_config

MODULE_big = pg_failsafe
EXTENSION = pg_failsafe

ROOT := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(ROOT)/pg_failsafe.control)
EXTENSION_SQL = pg_failsafe--$(EXTVERSION).sql

# What both sides of the relay's socket read and write is the one file of relay/ that
# the library has too.
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c))) relay/frame.o

# Scripts of released versions are kept as they were published; those to the
# version in the making are filled in from the sources.
RELEASED = $(sort $(wildcard sql/released/*.sql))
UPDATES = $(filter-out $(notdir $(RELEASED)),$(notdir $(sort $(wildcard sql/updates/*.sql))))
DATA_built = $(EXTENSION_SQL) $(UPDATES)
DATA = $(filter-out %/$(EXTENSION_SQL),$(RELEASED))

# The test that installs the extension comes first, the others in name order.
TESTS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS = $(filter install,$(TESTS)) $(filter-out install,$(TESTS))
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation --load-extension=$(EXTENSION)

PG_CPPFLAGS = -I$(srcdir)/src -I$(srcdir) -DFAILSAFE_VERSION="\"$(EXTVERSION)\""
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

EXTRA_CLEAN = build $(UPDATES) $(OBJS:.o=.d) $(OBJS:.o=.gcno) $(OBJS:.o=.gcda) results \
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

INSTALL_TOOLS = src/install-script src/version.awk src/install.awk src/grants.awk
INSTALL_LISTS = src/install.order src/grants.matrix $(wildcard src/*.sql src/*/*.sql)

$(EXTENSION_SQL): pg_failsafe.control $(INSTALL_TOOLS) $(INSTALL_LISTS)
	@sh src/install-script > $@.tmp && mv $@.tmp $@

$(UPDATES): %: sql/updates/% src/update.awk $(INSTALL_TOOLS) $(INSTALL_LISTS)
	@awk -f src/update.awk $< > $@.tmp && mv $@.tmp $@

# A release is written down: its install script, and the updates that lead to it.
# From then on they never change (docs/releasing.md).
RELEASED_SQL = sql/released/pg_failsafe--$(VERSION).sql
RELEASED_UPDATES = $(filter %--$(VERSION).sql,$(UPDATES))

freeze: $(RELEASED_UPDATES)
	@printf '%s\n' '$(VERSION)' | grep -qxE '[0-9]+\.[0-9]+\.[0-9]+' || \
	   { echo 'usage: make freeze VERSION=1.2.3 [REPLACE=1]' >&2; exit 1; }
	@test -n '$(REPLACE)' || ! test -e $(RELEASED_SQL) || \
	   { echo '$(RELEASED_SQL) exists; REPLACE=1 if it was not published yet' >&2; exit 1; }
	sh src/install-script $(VERSION) > $(RELEASED_SQL).tmp && mv $(RELEASED_SQL).tmp $(RELEASED_SQL)
	@for script in $(RELEASED_UPDATES); do \
	   mv $$script sql/released/ && rm sql/updates/$$script || exit 1; \
	done

# "make print-REGRESS" tells scripts what a variable holds.
print-%:
	@echo $($*)

FORCE:
.PHONY: FORCE freeze
