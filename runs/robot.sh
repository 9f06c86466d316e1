#!/bin/sh
# Does masking help a small policy at a cluttered table? Records demonstrations, trains one policy a masker
# (none: pictures as they are; compact: the shipped model; environment: the simulation's true masks), and rolls
# all of them out on the same tables, cleared and with many distractors. Every step goes on where it stopped.
#
#   sh runs/robot.sh                                                     the whole comparison, hours on a CPU
#   TASK=reach EPISODES=150 STEPS=1500 WIDTH=8 ROLLOUTS=20 sh runs/robot.sh      a reduced edition, on one task
set -eu

IVM=${IVM:-ivm}
WORK=${WORK:-outputs/robot}        # demonstrations, runs and the record of the rollouts
TASK=${TASK:-reach pick}           # of reach, push, pick, place
EPISODES=${EPISODES:-1000}         # demonstrations of each task
SHOWN=${SHOWN:-1-3}                # distractors in demonstrations
CLUTTER=${CLUTTER:-6-8}            # distractors in rollouts
MASKERS=${MASKERS:-none compact environment}
STEPS=${STEPS:-20000}              # of training
WIDTH=${WIDTH:-16}                 # of the policy's networks
ROLLOUTS=${ROLLOUTS:-100}          # episodes for each policy and condition
SEED=${SEED:-0}
THREADS=${THREADS:-2}

for task in $TASK; do
    "$IVM" robot record "$WORK/$task/demonstrations" --task "$task" --episodes "$EPISODES" \
        --distractors "$SHOWN" --seed "$SEED"
    policies=""
    for masker in $MASKERS; do
        run="$WORK/$task/$masker"
        "$IVM" robot train "$WORK/$task/demonstrations" --output "$run" --masker "$masker" \
            --steps "$STEPS" --width "$WIDTH" --seed "$SEED" --threads "$THREADS"
        policies="$policies $run"
    done
    # shellcheck disable=SC2086  # several folders
    "$IVM" robot rollout expert $policies --episodes "$ROLLOUTS" --distractors "$CLUTTER" \
        --output "$WORK/$task/rollouts.jsonl" --threads "$THREADS"
done
