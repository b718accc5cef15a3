"""What xdist's schedulers and its sending of tests need where workers are lost.

Each of these was seen to hang the run or to end it with an INTERNALERROR.  They lean on internals of xdist; where those
are missing, xdist goes its own way.
"""


def mend(scheduler, refuse):
    """refuse(worker) is called for a successor that has collected other tests than there are."""
    deal_out_as_workers_can_take(scheduler)
    only_to_those_who_collected(scheduler)
    start_those_who_collected(scheduler)
    take_collections_of_successors(scheduler, refuse)


def scope_work(scheduler, worker):
    """The tests of a worker by the loadscope family's books: {scope: {node id: whether it is done}}."""
    return getattr(scheduler, "assigned_work", {}).get(worker, {})


def left_of(work):
    return sum(not done for unit in work.values() for done in unit.values())


def deal_out_as_workers_can_take(scheduler):
    """When a worker is lost the loadscope family deals out its tests to all others, one scope to each: also to one that is there
    already and has not told yet what it has collected, which ends the run in a KeyError; it gets its part when it has told.
    Where that scope has one test left the run would hang: a worker begins a test when it knows the next one, or that none
    comes."""
    reschedule = getattr(scheduler, "_reschedule", None)
    if reschedule is None or not hasattr(scheduler, "registered_collections") or not hasattr(scheduler, "workqueue"):
        return

    def reschedule_until_it_begins(worker):
        if scheduler.workqueue and worker not in scheduler.registered_collections:
            return
        reschedule(worker)
        while not worker.shutting_down and left_of(scope_work(scheduler, worker)) < 2:
            reschedule(worker)

    scheduler._reschedule = reschedule_until_it_begins


def only_to_those_who_collected(scheduler):
    """--dist=load sends the numbers of tests as soon as a successor is there: what they mean to it is not known yet.
    worksteal does that, too; kept from it, it would send such a worker home."""
    send = getattr(scheduler, "_send_tests", None)
    if send is None or not hasattr(scheduler, "node2collection") or hasattr(scheduler, "steal_requested_from_node"):
        return

    def send_if_collected(node, num):
        if node in scheduler.node2collection:
            send(node, num)

    scheduler._send_tests = send_if_collected


def start_those_who_collected(scheduler):
    """--dist=each starts all that are there, with a KeyError for a successor that has not told yet what it has collected."""
    started = getattr(scheduler, "_started", None)
    if started is None or not hasattr(scheduler, "_removed2pending"):
        return
    schedule = scheduler.schedule

    def schedule_those():
        early = [worker for worker in scheduler.nodes if worker not in scheduler.node2collection]
        started.extend(early)
        try:
            schedule()
        finally:
            for worker in early:
                started.remove(worker)

    scheduler.schedule = schedule_those


def take_collections_of_successors(scheduler, refuse):
    add_node_collection = scheduler.add_node_collection

    def add(node, collection):
        if not scheduler.collection_is_completed:
            add_node_collection(node, collection)
        elif node not in scheduler.nodes and node.shutting_down:
            # It was ready when the last tests were running, was told to end, and not added.  Where another worker was lost
            # then the run goes on, and this would end it in an AssertionError.
            pass
        elif not has_collected_the_same(scheduler, node, collection):
            # xdist notes that for itself, and gives it tests by their numbers all the same.
            refuse(node)
        else:
            add_node_collection(node, collection)
            if hasattr(scheduler, "_removed2pending"):
                # Without it the tests of a successor that is lost, too, are lost with it.
                scheduler.node2collection[node] = list(collection)

    scheduler.add_node_collection = add


def has_collected_the_same(scheduler, worker, collection):
    if hasattr(scheduler, "_removed2pending"):
        return any(scheduler.node2collection[dead] == collection for dead in predecessors(scheduler, worker))
    return collection == getattr(scheduler, "collection", collection)


def predecessors(scheduler, worker):
    """With --dist=each: the lost workers whose tests wait for this one, or for one in its place."""
    return [dead for dead in getattr(scheduler, "_removed2pending", ()) if dead.gateway.spec == worker.gateway.spec]


def forget_collection(scheduler, worker):
    """Tests are dealt out when as many workers as there were at first have collected them: one that is lost before that is
    not one of them, its successor is."""
    if not getattr(scheduler, "collection_is_completed", True):
        for books in "node2collection", "registered_collections":
            getattr(scheduler, books, {}).pop(worker, None)


def give_nothing_to_the_dead(worker):
    """xdist may send tests to a worker that has ended and whose end it has not heard of yet: an OSError ended the run.  When it
    hears of the end it deals them out again."""
    sendcommand = worker.sendcommand

    def send_if_alive(name, **kwargs):
        try:
            sendcommand(name, **kwargs)
        except OSError:
            pass

    worker.sendcommand = send_if_alive


def give_back(scheduler, worker, nodeid):
    """With --dist=each: the test that a lost worker was to run first is its successor's. False where that cannot be."""
    try:
        index = scheduler.node2collection[worker].index(nodeid)
        scheduler._removed2pending.setdefault(worker, []).insert(0, index)
    except (AttributeError, KeyError, ValueError):
        return False
    return True


def has_work_for_successor(scheduler, worker):
    """Whether a worker in the place of this one, which is lost, would get anything to do."""
    if scheduler.collection_is_completed and hasattr(scheduler, "_removed2pending"):  # --dist=each: nothing but its own
        return bool(predecessors(scheduler, worker))
    return not scheduler.tests_finished
